"""The columns of a row, and what tables and folders call their values.

A row is one (victim, attack, ε, utterance). ``docs/rows.md`` says the same for those who read the
Parquet files with other tools.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

__all__ = [
    "BEFORE",
    "LATER",
    "OF_TRAINING",
    "PARTS",
    "SCHEMA",
    "SOURCE_KEY",
    "epsilon_names",
    "epsilon_order",
    "epsilon_unit_text",
    "parameters_hash",
    "row_digest",
]

# One flat table for all victims, attacks and domains: what does not apply is null or NaN, so that
# any set of files can be put together and grouped by any column.
SCHEMA = pa.schema(
    [
        ("victim", pa.string()),
        ("victim_fingerprint", pa.string()),
        ("threat", pa.string()),  # victim that the attack was run on: itself, or another
        ("corpus", pa.string()),
        ("language", pa.string()),
        ("synthetic", pa.bool_()),
        ("notes", pa.list_(pa.string())),
        ("split", pa.string()),
        ("defence", pa.string()),  # what the victim was trained against, in words; null: nothing
        ("training_seconds", pa.float64()),  # without compilation; NaN where nobody has counted
        ("training_compile_seconds", pa.float64()),
        ("training_device", pa.string()),
        ("training_queries", pa.int64()),  # forward passes of an utterance; null where not known
        ("training_gradients", pa.int64()),
        ("smoothing", pa.float64()),  # σ of a smoothed victim's noise; NaN of others
        ("smoothing_samples", pa.int64()),  # draws in each of its passes; null likewise
        ("domain", pa.string()),  # that was changed: "waveform", "features" or another
        ("output", pa.string()),  # that the attack was given: "logits" or "probabilities"
        ("utterance", pa.string()),
        ("source", pa.string()),  # the whole one that it is a chunk of: itself, as a rule
        ("speaker", pa.string()),
        ("gender", pa.string()),
        ("label", pa.string()),
        ("attacked_label", pa.string()),
        ("label_source", pa.string()),  # "truth", "prediction" or "target"
        ("targeted", pa.bool_()),
        ("clean_prediction", pa.string()),  # null where the logits are not finite
        ("prediction", pa.string()),  # of the adversarial input; null likewise
        ("attack", pa.string()),
        ("parameters", pa.string()),  # JSON
        ("parameters_hash", pa.string()),
        ("suite", pa.string()),  # that the attack is one of, such as "standard-1"; null of none
        ("epsilon", pa.float64()),
        ("epsilon_unit", pa.string()),  # "amplitude", or dB as "snr_peak" or "snr_power"
        ("epsilon_norm", pa.string()),  # that ε bounds
        ("epsilon_amplitude", pa.float64()),  # ε as such a norm
        ("amplitude", pa.float64()),  # bound of a sample's change beside ε; NaN where there is none
        ("seed", pa.int64()),
        ("success", pa.bool_()),
        ("success_share", pa.float64()),  # of the draws of a randomised victim; NaN in older rows
        ("clean_logits", pa.list_(pa.float32())),  # null in older rows, and of other listeners
        ("logits", pa.list_(pa.float32())),  # of the adversarial input; null likewise
        ("stage", pa.string()),  # member of a composite attack that succeeded; null if none
        ("found_norm", pa.float64()),  # smallest whatever ε; NaN where none, or not looked for
        ("l0", pa.float64()),
        ("l1", pa.float64()),
        ("l2", pa.float64()),
        ("linf", pa.float64()),
        ("mean_abs", pa.float64()),
        ("sparsity", pa.float64()),
        ("snr_peak", pa.float64()),  # dB; NaN where undefined
        ("snr_power", pa.float64()),
        ("stoi", pa.float64()),  # intelligibility; NaN where undefined or not asked for
        ("colour_distance", pa.float64()),  # of pixels to the colour map; NaN where none is drawn
        ("decibel_change", pa.float64()),  # mean, of the nearest spectrogram; NaN likewise
        ("dead_gradients", pa.float64()),  # share of an image's cells without one; NaN likewise
        ("steps", pa.int64()),
        ("queries", pa.int64()),
        ("gradients", pa.int64()),
        ("flags", pa.list_(pa.string())),
        ("device", pa.string()),
        ("seconds", pa.float64()),  # steady state, shared out over the rows of a batch
        ("compile_seconds", pa.float64()),  # of the run that made the row, as is the count
        ("compile_count", pa.int64()),
    ]
)

# What is known of how a victim came about.
OF_TRAINING = (
    *("defence", "training_seconds", "training_compile_seconds", "training_device"),
    *("training_queries", "training_gradients"),
)

# Columns that rows of older versions lack, and which stands for them; NaN or null where none does.
LATER = {
    "source": "utterance",
    **dict.fromkeys(("success_share", "clean_logits", "logits", "suite")),
    **dict.fromkeys(("colour_distance", "decibel_change", "dead_gradients")),
    **dict.fromkeys(("smoothing", "smoothing_samples", "amplitude", "output")),
    **dict.fromkeys(OF_TRAINING),
}

# What those rows are of where it could be nothing else.
BEFORE = {"output": "logits"}

# By what a table can be split, and the column that says it.
PARTS = {
    "class": "label",
    "gender": "gender",
    "speaker": "speaker",
    "language": "language",
    "corpus": "corpus",
}

# How a table writes what ε counts: decibels, or the norm that it bounds.
_DECIBELS = {"snr_peak": "dB peak", "snr_power": "dB power"}
_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "samples"}

# Under what a Parquet file's metadata keeps what made its rows.
SOURCE_KEY = b"jaxser"


def parameters_hash(values: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a set of JSON values, whatever their order."""
    # Folders of rows bear this name: another way to write the same JSON would make their rows anew.
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def row_digest(content: bytes | memoryview) -> str:
    """Of a file of rows, in whose name it stands: the first 16 digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def epsilon_unit_text(unit: str, norm: str) -> str:
    """What an ε counts, as a table says it beside the number or above it."""
    return _NORMS[norm] if unit == "amplitude" else _DECIBELS[unit]


def epsilon_names(epsilons: Iterable[float], digits: int = 4) -> dict[float, str]:
    """By ε how tables write it: with as few digits as tell all of them apart.

    Args:
      epsilons: all that stand in one place; the same one may come again.
      digits: significant ones, at least.

    Examples:
      >>> from jaxser.results.schema import epsilon_names
      >>> print(*epsilon_names([0.002, 8 / 255]).values())
      0.002 0.03137
      >>> print(*epsilon_names([0.03137, 8 / 255]).values())
      0.03137 0.031373
    """
    distinct = list(dict.fromkeys(epsilons))
    # Two floats that differ do so within 17 digits.
    for each in range(digits, 18):
        names = [f"{epsilon:.{each}g}" for epsilon in distinct]
        if len(set(names)) == len(names):
            break
    return dict(zip(distinct, names, strict=True))


def epsilon_order(unit: str, epsilon: float) -> float:
    """Sorts ε of one unit from weak to strong: a larger SNR is a smaller perturbation."""
    return epsilon if unit == "amplitude" else -epsilon
