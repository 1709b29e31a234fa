"""Checkpoints of a run: the only file that imports orbax.

    checkpoints = Checkpoints("runs/demo/checkpoints")
    checkpoints.save_last(step, state, iterator, record)
    step, state, record = checkpoints.restore_last(like=state, iterator=iterator)

A run folder holds two: ``last``, from which training goes on (state, position in the data,
host-side record), and ``best``, which a victim is loaded from (variables alone); a run against an
attack also ``best_robust``, in the form of ``best``. Each is written
under a temporary name, with the digests of its files, and renamed when whole, so a kill or a full
disk never harms the one before. The digests are looked at before it is read; one from before there
were digests has none.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import atomic_folder
from jaxser.runtime.integrity import damage_in, not_finite, path_name, write_digests
from jaxser.runtime.sharding import placed_like
from jaxser.runtime.text import listed
from jaxser.runtime.together import are_several, is_first

__all__ = ["Checkpoints", "load_variables"]

Tree = TypeVar("Tree")

# Where grain keeps the position in the data of a run in one process.
_POSITION = "process_0-of-1.json"


class Checkpoints:
    """The ``last`` and the ``best`` checkpoint of one run folder.

    Args:
      folder: made where absent.

    Raises:
      InputError: the folder's path holds what orbax cannot keep.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = _storable(Path(folder).resolve())
        self._writers: dict[str, ocp.Checkpointer] = {}

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
            state=ocp.args.StandardSave(_own(state)),
            data=grain.checkpoint.CheckpointSave(data),
            record=ocp.args.JsonSave(record),
        )
        self._save("last", step, items, state)

    def save_best(self, step: int, variables: Any, name: str = "best") -> None:
        """Save the variables of the best epoch so far; same errors as :meth:`save_last`.

        Args:
          step: update number.
          variables: pytree of arrays.
          name: "best", which victims are loaded from, or "best_robust".
        """
        items = ocp.args.Composite(variables=ocp.args.StandardSave(_own(variables)))
        self._save(name, step, items, variables)

    def restore_last(self, like: Tree, data: Iterator[Any]) -> tuple[int, Tree, dict[str, Any]]:
        """Read what :meth:`save_last` wrote, and move ``data`` to its position.

        Args:
          like: state of the same structure, shapes and shardings.
          data: grain iterator to reposition.

        Returns:
          (step, state, record); step 0, ``like`` itself and {} where nothing was saved.

        Raises:
          InputError: the checkpoint does not fit ``like`` or is damaged, or its variables are
            not finite.
        """
        import grain

        last = self._folder / "last"
        steps = _steps(last)
        if not steps:
            return 0, like, {}
        step = max(steps)
        path = last / str(step)
        others: dict[str, Any] = {"record": ocp.args.JsonRestore()}
        if not are_several():
            others["data"] = grain.checkpoint.CheckpointRestore(data)
        with _quiet(), contextlib.closing(_open(last)) as manager:
            restored = _restore(manager, step, path, {"state": _own(like)}, **others)
        state = restored["state"]
        _check_finite(path, getattr(state, "variables", None))
        if are_several():
            with _readable(path):
                data.set_state(  # type: ignore[attr-defined]
                    json.loads((path / "data" / _POSITION).read_text("utf-8"))
                )
            state = placed_like(state, like)
        return step, state, restored["record"]

    def damaged(self, step: int, reason: str) -> InputError:
        """What to raise where the checkpoint of ``step`` cannot be gone on from."""
        return _damaged(self._folder / "last" / str(step), reason)

    def kept(self) -> str:
        """What there is to go back to, for an error message."""
        steps = _steps(self._folder / "last")
        if not steps:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._folder / 'last' / str(max(steps))}"

    def close(self) -> None:
        """Release orbax's threads."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, name: str) -> ocp.Checkpointer:
        if name not in self._writers:
            (self._folder / name).mkdir(parents=True, exist_ok=True)
            alone = _alone()
            options = ocp.CompositeOptions(multiprocessing_options=alone)
            handler = ocp.CompositeCheckpointHandler(composite_options=options, **_handlers(name))
            self._writers[name] = ocp.Checkpointer(handler, multiprocessing_options=alone)
        return self._writers[name]

    def _save(self, name: str, step: int, items: ocp.args.Composite, arrays: Any) -> None:
        if not is_first():
            return
        writer, path = self._writer(name), self._folder / name / str(step)
        before = _steps(path.parent)
        if before and max(before) >= step:
            # A run killed between the two saves of an epoch comes here again with the same
            # values: training is deterministic.
            return
        _check_space(path, arrays)
        with _quiet(), _refusal_named(path), atomic_folder(path) as temporary:
            # Orbax takes no folder that is there.
            written = temporary / path.name
            writer.save(written, args=items)
            for entry in list(written.iterdir()):
                entry.rename(temporary / entry.name)
            written.rmdir()
            for position in (temporary / "data").glob("process_0-of-*.json"):
                # All processes are at the same place, and other numbers of them go on from it.
                position.rename(position.with_name(_POSITION))
            write_digests(temporary)
        for old in before:
            shutil.rmtree(path.parent / str(old))


def _steps(folder: Path) -> list[int]:
    """Of the checkpoints that are there, whole."""
    if not folder.is_dir():
        return []
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]


def _storable(folder: Path) -> Path:
    """The folder, where orbax and tensorstore take its name for what it is.

    They read and write another folder for a backslash, look for a pattern where there is one, and
    take a colon before a slash for the name of a service.
    """
    name = folder.as_posix()
    fault = next((c for c in "\\[*?" if c in name), "") or (":/" if ":/" in name[3:] else "")
    if fault or any("\ud800" <= c <= "\udfff" for c in name):
        what = repr(fault) if fault else "bytes that are not UTF-8"
        raise InputError(
            f"a checkpoint in {name!a} could not be read back, as its path holds {what}; "
            "rename the folder, or give another."
        )
    return folder


def load_variables(folder: Path | str, like: Any) -> Any:
    """Variables of the ``best`` checkpoint under ``folder``, shaped like ``like``.

    Args:
      folder: the run's ``checkpoints`` folder.
      like: pytree of arrays or ``jax.ShapeDtypeStruct``.

    Returns:
      Pytree of NumPy arrays.

    Raises:
      InputError: there is no checkpoint, it is damaged, it is of another architecture, or holds
        what is not finite.
    """
    best = _storable(Path(folder).resolve()) / "best"
    steps = _steps(best)
    if not steps:
        raise InputError(
            f"{folder} holds no finished checkpoint; train the run to the end of an epoch first."
        )
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    while True:
        step = max(steps)
        try:
            return _load_best(best, step, host)
        except InputError:
            # A run under way may have put a better one in its place meanwhile.
            steps = _steps(best)
            if not steps or max(steps) == step:
                raise


def _load_best(best: Path, step: int, host: Any) -> Any:
    path = best / str(step)
    with _quiet(), contextlib.closing(_open(best)) as manager:
        variables = _restore(manager, step, path, {"variables": host})["variables"]
    _check_finite(path, variables)
    return variables


def _alone() -> ocp.options.MultiprocessingOptions:
    """Orbax would have all processes save and load together: others may load another victim, or
    none, and one writes for all."""
    return ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"alone{jax.process_index()}",
    )


def _own(tree: Tree) -> Tree:
    """Arrays that all processes share, each of which has all of it, as this one's."""
    return jax.tree.map(np.asarray, tree) if are_several() else tree


def _handlers(name: str) -> dict[str, Any]:
    """Of the items of a checkpoint, each for this process alone."""
    alone = _alone()
    standard = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    if name != "last":
        return {"variables": standard}
    import grain  # only training needs it: attacks on a loaded victim do not

    return {
        "state": standard,
        "data": grain.checkpoint.CheckpointHandler(),
        "record": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }


def _open(folder: Path) -> ocp.CheckpointManager:
    """The manager of ``.../best`` or ``.../last``, to read.

    Handlers are named beforehand, so that names and shapes can be read without a save first.
    Opening it for writing would clear the unfinished files of a run under way.
    """
    handlers = _handlers(folder.name)
    options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=_alone())
    return ocp.CheckpointManager(
        folder, options=options, item_names=tuple(handlers), item_handlers=handlers
    )


def _restore(
    manager: ocp.CheckpointManager, step: int, path: Path, trees: dict[str, Any], **others: Any
) -> Any:
    """Restore ``trees`` and the ``others``, after a look at digests, names and shapes."""
    damage = damage_in(path)
    if damage is not None:
        raise _damaged(path, damage)
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
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _shown(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _check_finite(path: Path, variables: Any) -> None:
    """Refuse what is no number: of a run that diverged, or of a disk that forgot."""
    arrays = not_finite(variables)
    if arrays:
        raise InputError(
            f"the checkpoint {path} holds values that are not finite in {listed(arrays, most=3)}; "
            "restore it from a copy, or train again, with a smaller learning rate if the training "
            "diverged."
        )


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"the checkpoint {path} is damaged or incomplete ({reason}); restore it from a copy, or "
        f"delete {path.parents[1]} and train the run again."
    )


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


@contextlib.contextmanager
def _refusal_named(path: Path) -> Iterator[None]:
    """Tensorstore reports what the operating system refused as text inside other exceptions: make
    it an OSError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        for code in errno.errorcode:
            if os.strerror(code) in text:
                raise OSError(code, os.strerror(code), str(path)) from error
        raise
