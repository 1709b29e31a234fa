"""A run's figures as TensorBoard reads them, in the folder ``tensorboard`` of the run.

    shown = TensorBoard(Path("runs/demo"), resumed_at=0)
    shown.scalars({"val/uar": 0.7}, step=500)
    shown.close()

What TensorBoard shows is of use, but no result: where its file cannot be written, a warning says so
and the run goes on.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

__all__ = ["TensorBoard"]

_LOG = logging.getLogger(__name__)


class TensorBoard:
    """See :class:`jaxser.training.trackers.Tracker`.

    Args:
      folder: of the run.
      resumed_at: updates of the checkpoint that the run goes on from; 0 of a new one.
    """

    def __init__(self, folder: Path, resumed_at: int) -> None:
        self._folder = folder / "tensorboard"
        self._file = _EventFile()
        # A resumed run drops what a killed one wrote past its last checkpoint, and nothing of the
        # checkpoint's own step: the epoch that ended with it is not written again. One file a
        # start: names of the same second would be the same file, written from its beginning.
        self._events = _summary_writer(
            self._folder,
            self._file,
            purge_step=resumed_at + 1,
            filename_suffix=f".{len(list(self._folder.glob('events*')))}",
        )

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)

    def hyperparameters(self, config: Mapping[str, Any], figures: Sequence[str]) -> None:
        from tensorboardX.summary import hparams

        # Into this run's own file: what add_hparams writes is a run more, beside it.
        for summary in hparams(dict(config), dict.fromkeys(figures, 0.0)):
            self._events.file_writer.add_summary(summary)

    def figure(self, name: str, figure: Any, step: int) -> None:
        self._events.add_figure(name, figure, step, close=False)

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        self._events.add_audio(name, samples, step, sample_rate)

    def flush(self) -> None:
        self._events.flush()
        self._say_lost_events()

    def close(self) -> None:
        self._events.close()
        self._say_lost_events()

    def _say_lost_events(self) -> None:
        """Once, why TensorBoard lacks what came since."""
        file = self._file
        if file.error is not None and not file.told:
            file.told = True
            _LOG.warning(
                "TensorBoard's file in %s cannot be written (%s); the run goes on without it.",
                self._folder,
                file.error.strerror or file.error,
            )


@dataclasses.dataclass
class _EventFile:
    """What became of TensorBoard's file.

    Attributes:
      error: the first one that kept an event from it.
      told: whether somebody has said so.
    """

    error: OSError | None = None
    told: bool = False


def _summary_writer(folder: Path, file: _EventFile, **settings: Any) -> "SummaryWriter":
    """tensorboardX's, with a file that takes and drops all after an error, which ``file`` gets.

    A thread writes. One that the error ended would leave a queue that nobody empties, and whoever
    puts more into it waits for ever.
    """
    # Where torch is installed this imports it: a second that a user need not wait first.
    from tensorboardX import SummaryWriter, event_file_writer

    plain = event_file_writer.EventsWriter

    def unless_lost(act: Callable[[], Any], again: bool = False) -> None:
        if again or file.error is None:
            try:
                act()
            except OSError as error:
                file.error = file.error or error

    class Kept(plain):  # type: ignore[misc]
        def write_event(self, event: Any) -> None:
            unless_lost(lambda: super(Kept, self).write_event(event))

        def flush(self) -> None:
            unless_lost(super().flush)

        def close(self) -> None:
            # Also after an error: the file must not be left to the garbage collector.
            unless_lost(super().close, again=True)

    # The thread begins to write as soon as there is a writer.
    event_file_writer.EventsWriter = Kept
    try:
        return SummaryWriter(str(folder), **settings)
    except OSError as error:
        file.error = error  # there is no file at all
        return SummaryWriter(str(folder), write_to_disk=False)
    finally:
        event_file_writer.EventsWriter = plain
