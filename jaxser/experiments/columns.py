"""What a block of attacked rows leaves in the row files: its columns, and those of listeners."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxser.attacks.base import FLAG_NAMES
from jaxser.attacks.losses import is_successful
from jaxser.driver.row_block import RowBlock
from jaxser.driver.run import predict
from jaxser.experiments.run import Listener, Run
from jaxser.results.intelligibility import short_time_intelligibility
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
    names = run.speech.victim.labels
    count = int(new.sum())
    utterances = [run.utterances[i] for i in where[new]]
    flags = [
        [name for bit, name in FLAG_NAMES.items() if value & bit] for value in block.flags[new]
    ]
    return {
        **{name: [value] * count for name, value in run.facts.items()},
        "utterance": [utterance.id for utterance in utterances],
        "source": [utterance.whole for utterance in utterances],
        "speaker": [utterance.speaker for utterance in utterances],
        "gender": [utterance.gender for utterance in utterances],
        "label": [names[i] for i in run.speech.labels[where[new]]],
        "attacked_label": [names[i] for i in run.attacked[where[new]]],
        "clean_prediction": [_name(names, i) for i in run.speech.clean.prediction[where[new]]],
        "prediction": [_name(names, i) for i in block.prediction[new]],
        "epsilon": [run.epsilons[i] for i in block.epsilon_index[new]],
        "epsilon_amplitude": block.epsilon_amplitude[new].astype("float64"),
        "success": block.success[new],
        "success_share": block.success_share[new].astype("float64"),
        "clean_logits": list(run.speech.clean.logits[where[new]]),
        "logits": list(block.logits[new]),
        "stage": [_name(run.members, i) for i in block.stage[new]],
        "found_norm": block.found_norm[new].astype("float64"),
        **{name: values[new].astype("float64") for name, values in block.measures.items()},
        "stoi": _stoi(run, where, block, new),
        **_image_measures(run, where, block, new),
        "steps": block.steps[new].astype("int64"),
        "queries": block.queries[new].astype("int64"),
        "gradients": block.gradients[new].astype("int64"),
        "flags": flags,
        "seconds": block.seconds[new],
        "compile_seconds": [block.throughput.compile_seconds] * count,
        "compile_count": [block.throughput.compile_count] * count,
    }


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
        "victim": [listener.name] * count,
        "victim_fingerprint": [listener.fingerprint] * count,
        **{name: [value] * count for name, value in listener.victim.training.columns().items()},
        "attacked_label": [_name(names, i) for i in attacked],
        "clean_prediction": [_name(names, i) for i in clean],
        "prediction": [_name(names, i) for i in found],
        "success": success,
        "success_share": success.astype("float64"),
        "clean_logits": [None] * count,
        "logits": [None] * count,
        "stage": [None] * count,
        "found_norm": np.full(count, np.nan),
        **dict.fromkeys(("steps", "queries", "gradients", "compile_count"), nothing),
        "flags": [[]] * count,
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


def _name(names: Sequence[str], index: int) -> str | None:
    return names[index] if index >= 0 else None
