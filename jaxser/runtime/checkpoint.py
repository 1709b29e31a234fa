"""Checkpoints of a run: the only file that imports orbax.

    checkpoints = Checkpoints("runs/demo/checkpoints")
    checkpoints.save_last(step, state, iterator, record)
    step, state, record = checkpoints.restore_last(like=state, iterator=iterator)

A run folder holds two: ``last``, from which training goes on (state, position in the data,
host-side record), and ``best``, which a victim is loaded from (variables alone). Orbax writes each
under a temporary name and renames it when whole, so a kill or a full disk never harms the one
before.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxser.runtime.errors import InputError

__all__ = ["Checkpoints", "load_variables"]

Tree = TypeVar("Tree")


class Checkpoints:
    """The ``last`` and the ``best`` checkpoint of one run folder.

    Args:
      folder: made where absent.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).resolve()
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def save_last(self, step: int, state: Any, data: Iterator[Any], record: dict[str, Any]) -> None:
        """Save all that training needs to go on from ``step``.

        Args:
          step: update number.
          state: pytree of arrays.
          data: grain iterator; its position is saved.
          record: JSON-able host-side bookkeeping.

        Raises:
          OSError: the disk is full (``ENOSPC``); the checkpoint before is untouched.
        """
        import grain

        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.checkpoint.CheckpointSave(data),
            record=ocp.args.JsonSave(record),
        )
        self._save("last", step, items, state)

    def save_best(self, step: int, variables: Any) -> None:
        """Save the variables of the best epoch so far; same errors as :meth:`save_last`."""
        items = ocp.args.Composite(variables=ocp.args.StandardSave(variables))
        self._save("best", step, items, variables)

    def restore_last(self, like: Tree, data: Iterator[Any]) -> tuple[int, Tree, dict[str, Any]]:
        """Read what :meth:`save_last` wrote, and move ``data`` to its position.

        Args:
          like: state of the same structure, shapes and shardings.
          data: grain iterator to reposition.

        Returns:
          (step, state, record); step 0, ``like`` itself and {} where nothing was saved.

        Raises:
          InputError: the checkpoint does not fit ``like`` or is damaged.
        """
        import grain

        manager = self._manager("last")
        step = manager.latest_step()
        if step is None:
            return 0, like, {}
        restored = _restore(
            manager,
            step,
            self._folder / "last" / str(step),
            {"state": like},
            data=grain.checkpoint.CheckpointRestore(data),
            record=ocp.args.JsonRestore(),
        )
        return step, restored["state"], restored["record"]

    def damaged(self, step: int, reason: str) -> InputError:
        """What to raise where the checkpoint of ``step`` cannot be gone on from."""
        return _damaged(self._folder / "last" / str(step), reason)

    def kept(self) -> str:
        """What there is to go back to, for an error message."""
        step = self._manager("last").latest_step()
        if step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._folder / 'last' / str(step)}"

    def close(self) -> None:
        """Release orbax's threads."""
        for manager in self._managers.values():
            manager.close()

    def _manager(self, name: str) -> ocp.CheckpointManager:
        if name not in self._managers:
            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self._managers[name] = _open(self._folder / name, options)
        return self._managers[name]

    def _save(self, name: str, step: int, items: ocp.args.Composite, arrays: Any) -> None:
        manager, path = self._manager(name), self._folder / name / str(step)
        if step in manager.all_steps():
            # A run killed between the two saves of an epoch comes here again with the same
            # values: training is deterministic.
            return
        _check_space(path, arrays)
        with _quiet(), _disk_full_named(path):
            manager.save(step, args=items)
            manager.wait_until_finished()


def load_variables(folder: Path | str, like: Any) -> Any:
    """Variables of the ``best`` checkpoint under ``folder``, shaped like ``like``.

    Args:
      folder: the run's ``checkpoints`` folder.
      like: pytree of arrays or ``jax.ShapeDtypeStruct``.

    Returns:
      Pytree of NumPy arrays.

    Raises:
      InputError: there is no checkpoint, it is damaged, or it is of another architecture.
    """
    best = Path(folder).resolve() / "best"
    steps = ocp.utils.checkpoint_steps(best) if best.is_dir() else []
    if not steps:
        raise InputError(
            f"{folder} holds no finished checkpoint; train the run to the end of an epoch first."
        )
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    step = max(steps)
    # Read-only: opening for writing would clear the unfinished files of a run under way.
    # By each process alone: others may load another victim, or none.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"alone{jax.process_index()}",
    )
    with _quiet():
        options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone)
        with contextlib.closing(_open(best, options)) as manager:
            return _restore(manager, step, best / str(step), {"variables": host})["variables"]


def _open(folder: Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    """The manager of ``.../best`` or ``.../last``.

    Handlers are named beforehand, so that names and shapes can be read without a save first.
    """
    handlers: dict[str, Any] = {"variables": ocp.StandardCheckpointHandler()}
    if folder.name == "last":
        import grain  # only training needs it: attacks on a loaded victim do not

        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "data": grain.checkpoint.CheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(),
        }
    return ocp.CheckpointManager(
        folder, options=options, item_names=tuple(handlers), item_handlers=handlers
    )


def _restore(
    manager: ocp.CheckpointManager, step: int, path: Path, trees: dict[str, Any], **others: Any
) -> Any:
    """Restore ``trees`` and the ``others``, after a look at names and shapes."""
    with _quiet(), _readable(path):
        metadata = manager.item_metadata(step)
        for name, like in trees.items():
            if metadata[name] is None:
                raise ValueError(f"the description of {name!r} is missing")
            _check_same_tree(path, metadata[name].tree, like)
        arrays = {name: ocp.args.StandardRestore(like) for name, like in trees.items()}
        return manager.restore(step, args=ocp.args.Composite(**arrays, **others))


def _check_same_tree(path: Path, metadata: Any, like: Any) -> None:
    """Compare names and shapes, for one clear sentence instead of orbax's many."""
    saved, wanted = _shapes(metadata), _shapes(like)
    differences = [
        f"{name} {_shown(saved.get(name))} instead of {_shown(wanted.get(name))}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]
    if differences:
        raise InputError(
            f"the checkpoint {path} is of another architecture ({len(differences)} arrays differ, "
            f"first {differences[0]}); use the config that it was trained with."
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _path_name(path: tuple[Any, ...]) -> str:
    """Names alone: orbax stores dataclasses and tuples as mappings and lists."""
    parts = (getattr(k, "name", getattr(k, "key", getattr(k, "idx", k))) for k in path)
    return ".".join(map(str, parts))


def _shown(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _check_space(path: Path, arrays: Any) -> None:
    """Refuse to begin what the disk cannot hold: a write that fails midway is noisy."""
    if shutil.disk_usage(path.parent).free < sum(x.nbytes for x in jax.tree.leaves(arrays)):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's log off the user's terminal.

    It warns that a read-only folder is read-only, and logs tracebacks of failures that it raises
    as well.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Damage shows in many exceptions of orbax and tensorstore: one sentence for all."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise _damaged(path, lines[0][:200] if lines else repr(error)) from error


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"the checkpoint {path} is damaged or incomplete ({reason}); "
        "delete that folder to start again, or restore it from a copy."
    )


@contextlib.contextmanager
def _disk_full_named(path: Path) -> Iterator[None]:
    """Tensorstore reports a full disk as text inside other exceptions: make it an OSError."""
    try:
        yield
    except Exception as error:
        if "No space left on device" in str(error) or "RESOURCE_EXHAUSTED" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
        raise
