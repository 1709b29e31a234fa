"""What shows a run's figures beside its folder: TensorBoard, or the client of a service.

    tracker = open_tracker("wandb", Path("runs/demo"), resumed_at=0)
    tracker.scalars({"val/uar": 0.7}, step=500)
    tracker.close()

The services' clients are extras (``pip install 'jaxser[wandb]'``) and have settings of their own,
such as WANDB_MODE=offline or MLFLOW_TRACKING_URI. They get figures and settings; pictures and sound
are TensorBoard's. A run that goes on is the same run there. What they show is of use, but no
result: where a client fails, a warning says so once and the run goes on without it.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxser.config.training import LogTo
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import one_line
from jaxser.training.tensorboard import TensorBoard

__all__ = ["Tracker", "check_tracker", "open_tracker"]

_LOG = logging.getLogger(__name__)

# What runs are together under.
_PROJECT = "jaxser"


class Tracker(Protocol):
    """One run, as something else shows it."""

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        """Figures by name ("val/uar"), after so many updates."""

    def hyperparameters(self, config: Mapping[str, Any], figures: Sequence[str]) -> None:
        """The settings, by dotted names, and the scalars to compare runs by."""

    def figure(self, name: str, figure: Any, step: int) -> None:
        """A matplotlib figure."""

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        """A waveform."""

    def flush(self) -> None:
        """At the end of an epoch."""

    def close(self) -> None:
        """At the end of the process."""


def check_tracker(kind: LogTo) -> None:
    """Refuse a service whose client is not here.

    Raises:
      UsageError: which extra to install.
    """
    if kind != "tensorboard" and importlib.util.find_spec(kind) is None:
        raise UsageError(
            f"training.log_to {kind} needs the package {kind}; install it with pip install "
            f"'jaxser[{kind}]', or leave training.log_to out."
        )


def open_tracker(kind: LogTo, folder: Path, resumed_at: int) -> Tracker:
    """Begin to show a run, or go on.

    Args:
      kind: which.
      folder: of the run.
      resumed_at: updates of the checkpoint that the run goes on from; 0 of a new one.
    """
    if kind == "tensorboard":
        return TensorBoard(folder, resumed_at)
    return _Service(kind, folder)


class _Service:
    """A client behind the methods of a tracker; after its first failure it is left alone."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._client: Any = None
        self._failed = False
        self._run(lambda: self._open(folder))

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._run(lambda: self._client.scalars(figures, step))

    def hyperparameters(self, config: Mapping[str, Any], figures: Sequence[str]) -> None:
        self._run(lambda: self._client.settings(config))

    def figure(self, name: str, figure: Any, step: int) -> None:
        """Pictures stay in the run folder."""

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        """Sound is not sent."""

    def flush(self) -> None:
        """Clients send by themselves."""

    def close(self) -> None:
        self._run(lambda: self._client.close())

    def _open(self, folder: Path) -> None:
        self._client = _CLIENTS[self._kind](folder.name, _identity(folder))

    def _run(self, act: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            act()
        except Exception as error:  # of a library and of a network: none of them is the training's
            self._failed = True
            _LOG.warning("%s failed (%s); the run goes on without it.", self._kind, one_line(error))


def _identity(folder: Path) -> str:
    """The same for a run that goes on, another one for every other."""
    said = f"{folder.resolve()}\n{(folder / 'run.json').read_text(encoding='utf-8')}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class _WeightsAndBiases:
    def __init__(self, name: str, identity: str) -> None:
        import wandb

        self._run = wandb.init(project=_PROJECT, name=name, id=identity, resume="allow")
        # Its own steps may not go back, as to the best epoch in the end.
        self._run.define_metric("*", step_metric="updates")

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log({**figures, "updates": step})

    def settings(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(dict(config), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, name: str, identity: str) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(_PROJECT)
        found = mlflow.search_runs(
            filter_string=f"tags.jaxser_run = '{identity}'", output_format="list"
        )
        if found:
            mlflow.start_run(run_id=found[0].info.run_id)
        else:
            mlflow.start_run(run_name=name, tags={"jaxser_run": identity})

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def settings(self, config: Mapping[str, Any]) -> None:
        # A parameter cannot be changed, and an empty text is none.
        self._mlflow.log_params({name: value for name, value in config.items() if value != ""})

    def close(self) -> None:
        self._mlflow.end_run()


class _Trackio:
    def __init__(self, name: str, identity: str) -> None:
        import trackio

        self._run = trackio.init(project=_PROJECT, name=f"{name}-{identity}", resume="allow")

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def settings(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(config)

    def close(self) -> None:
        self._run.finish()


_CLIENTS: Mapping[str, Callable[[str, str], Any]] = {
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
    "trackio": _Trackio,
}
