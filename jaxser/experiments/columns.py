"""What a block of attacked rows leaves in the row files: its columns, and those of listeners."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from jaxser.attacks.base import FLAG_NAMES
from jaxser.attacks.losses import is_successful
from jaxser.driver.row_block import RowBlock
from jaxser.driver.run import predict
from jaxser.driver.speech import Speech
from jaxser.experiments.run import Listener, Run
from jaxser.results.intelligibility import short_time_intelligibility
from jaxser.results.schema import SCHEMA
from jaxser.victims.image_domains import IMAGE_MEASURES

__all__ = ["columns_of", "heard_columns"]

# Rows that another victim hears at once: always as many, so that it is compiled once.
_HEARD_ROWS = 32

# Rows of images that are measured at a time, for the same reason.
_MEASURED_ROWS = 8

# Once for a victim, whatever number of blocks it has.
_compiled = functools.cache(jax.jit)


def columns_of(run: Run, where: np.ndarray, block: RowBlock, new: np.ndarray) -> dict[str, Any]:
    """The block's rows that are ``new``, as columns of the row schema.

    Args:
      run: that the block is of.
      where: places of the block's rows among the run's utterances, ``[rows]``.
      block: what the driver has finished.
      new: which of its rows have no row in the files yet, ``[rows]`` bool.
    """
    names, speech = run.speech.victim.labels, run.speech
    own, count = where[new], int(new.sum())
    throughput = block.throughput
    return {
        **_repeated(run.facts, count),
        **{name: column.take(pa.array(own)) for name, column in _of_utterances(speech).items()},
        "label": _named(names, speech.labels[own]),
        "attacked_label": _named(names, run.attacked[own]),
        "clean_prediction": _named(names, speech.clean.prediction[own]),
        "prediction": _named(names, block.prediction[new]),
        "epsilon": np.asarray(run.epsilons, np.float64)[block.epsilon_index[new]],
        "epsilon_amplitude": block.epsilon_amplitude[new].astype("float64"),
        "success": block.success[new],
        "success_share": block.success_share[new].astype("float64"),
        "clean_logits": _lists(speech.clean.logits[own]),
        "logits": _lists(block.logits[new]),
        "stage": _named(run.members, block.stage[new]),
        "found_norm": block.found_norm[new].astype("float64"),
        **{name: values[new].astype("float64") for name, values in block.measures.items()},
        "stoi": _stoi(run, where, block, new),
        **_image_measures(run, where, block, new),
        "steps": block.steps[new].astype("int64"),
        "queries": block.queries[new].astype("int64"),
        "gradients": block.gradients[new].astype("int64"),
        "flags": _flag_names(block.flags[new]),
        "seconds": block.seconds[new],
        "compile_seconds": np.full(count, throughput.compile_seconds),
        "compile_count": np.full(count, throughput.compile_count),
    }


def _repeated(facts: Mapping[str, Any], count: int) -> dict[str, pa.Array]:
    """Columns that say the same in every row."""
    return {
        name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), count)
        for name, value in facts.items()
    }


# Attacks on the same speech share it.
@functools.lru_cache(maxsize=1)
def _of_utterances(speech: Speech) -> dict[str, pa.Array]:
    """What the corpus says, by place among the run's utterances."""
    utterances = speech.utterances
    columns = {
        "utterance": [each.id for each in utterances],
        "source": [each.whole for each in utterances],
        "speaker": [each.speaker for each in utterances],
        "gender": [each.gender for each in utterances],
    }
    return {name: pa.array(values, pa.string()) for name, values in columns.items()}


def _named(names: Sequence[str], index: np.ndarray) -> pa.Array:
    """Names by index; null for those below 0."""
    return pa.array(list(names), pa.string()).take(pa.array(index.astype(int), mask=index < 0))


def _lists(rows: np.ndarray) -> pa.Array:
    """``[rows, values]`` as a list for each row."""
    flat = pa.array(rows.astype(np.float32).ravel())
    return pa.ListArray.from_arrays(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1], flat)


def _flag_names(flags: np.ndarray) -> pa.Array:
    """The names of each row's flags."""
    known, place = np.unique(flags, return_inverse=True)
    names = [[name for bit, name in FLAG_NAMES.items() if value & bit] for value in known]
    return pa.array(names, pa.list_(pa.string())).take(pa.array(place))


def heard_columns(
    run: Run,
    listener: Listener,
    own: Mapping[str, Any],
    where: np.ndarray,
    block: RowBlock,
    new: np.ndarray,
) -> dict[str, Any]:
    """The same rows as another victim hears them: it costs no step and no query of the attack.

    Args:
      run, where, block, new: as of :func:`columns_of`.
      listener: the other victim.
      own: columns of the attacked victim.
    """
    assert block.x_adv is not None
    names, count = listener.victim.labels, int(new.sum())
    clean = listener.clean[where[new]]
    found = predict(listener.victim, block.x_adv[new], batch_size=_HEARD_ROWS)
    # What is left is its own prediction where predictions are attacked.
    by_prediction = run.config.y == "prediction" and run.config.target is None
    attacked = clean if by_prediction else run.attacked[where[new]]
    nothing = np.zeros(count, np.int64)
    success = is_successful(found, attacked, run.config.target is not None)
    return {
        **own,
        **_repeated({"victim": listener.name, "victim_fingerprint": listener.fingerprint}, count),
        **_repeated(listener.victim.training.columns(), count),
        "attacked_label": _named(names, attacked),
        "clean_prediction": _named(names, clean),
        "prediction": _named(names, found),
        "success": success,
        "success_share": success.astype("float64"),
        **{name: pa.nulls(count) for name in ("clean_logits", "logits", "stage")},
        "found_norm": np.full(count, np.nan),
        **dict.fromkeys(("steps", "queries", "gradients", "compile_count"), nothing),
        "flags": _flag_names(nothing),
        **dict.fromkeys(("seconds", "compile_seconds"), nothing.astype(float)),
    }


def _image_measures(
    run: Run, where: np.ndarray, block: RowBlock, new: np.ndarray
) -> dict[str, np.ndarray]:
    """What the change is as a spectrogram, of a victim that reads images; NaN of others."""
    count, victim = int(new.sum()), run.speech.victim
    columns = {name: np.full(count, np.nan) for name in IMAGE_MEASURES}
    front_end = victim.front_end
    if front_end is None or front_end.measures is None or not count:
        return columns
    measures = _compiled(front_end.measures)
    x = np.asarray(run.speech.inputs[run.speech.places[where[new]]])
    # The waveform's measures are of what is attacked alone.
    x_adv = x if block.x_adv is None else block.x_adv[new]
    for start in range(0, count, _MEASURED_ROWS):
        rows = np.resize(np.arange(start, min(start + _MEASURED_ROWS, count)), _MEASURED_ROWS)
        for name, values in measures(victim.variables, x[rows], x_adv[rows]).items():
            part = columns[name][start : start + _MEASURED_ROWS]
            part[:] = np.asarray(values)[: len(part)]
    return columns


def _stoi(run: Run, where: np.ndarray, block: RowBlock, new: np.ndarray) -> np.ndarray:
    if not run.config.stoi:
        return np.full(int(new.sum()), np.nan)
    assert block.x_adv is not None
    x = run.speech.inputs[run.speech.places[where[new]]]
    return short_time_intelligibility(x, block.x_adv[new], run.speech.victim.sample_rate)
