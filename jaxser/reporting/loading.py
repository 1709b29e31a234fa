"""Rows of some folders for a report, each once.

rows = load([Path("runs/sweep")])
"""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from jaxser.reporting.coded import Coded, codes_of, numbered
from jaxser.reporting.rows import Rows
from jaxser.reporting.settings import SETTING, TARGET
from jaxser.results.reading import read_rows, read_sources
from jaxser.results.schema import OF_TRAINING
from jaxser.results.training_facts import TrainingFacts
from jaxser.results.units import Over
from jaxser.runtime.errors import InputError

__all__ = ["load"]

# Few columns of many, so that a report of a million rows fits into memory.
_TEXTS = (
    *("corpus", "split", "domain", "output", "victim", "threat", "attack", "parameters"),
    *("epsilon_unit", "epsilon_norm", "language", "speaker", "gender"),
    *("label", "clean_prediction", "prediction", "device", "utterance", "source"),
)
_NUMBERS = (
    *("epsilon", "seed", "success", "sparsity", "mean_abs", "snr_peak", "snr_power", "stoi"),
    *("queries", "gradients", "seconds", "compile_seconds", "found_norm", "l0", "l1", "l2", "linf"),
    *("colour_distance", "decibel_change", "dead_gradients"),
)
# What is read to tell other columns apart, or counted.
_OTHERS = (
    *("victim_fingerprint", "label_source", "attacked_label", "targeted"),
    *("notes", "flags", "synthetic"),
)
_TRAINING_TEXTS = ("defence", "training_device")
_TRAINING_NUMBERS = tuple(name for name in OF_TRAINING if name not in _TRAINING_TEXTS)


def load(folders: Sequence[Path], interval_over: Over = "utterance") -> Rows:
    """All rows in some folders, each once.

    Args:
      folders: that hold rows.
      interval_over: what all intervals that are made of them are over.

    Raises:
      InputError: no rows, or files that are damaged or of another layout.
    """
    tables, sources = [], []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give a run or a sweep that has rows.")
        tables.append(read_rows(folder, [*_TEXTS, *_NUMBERS, *_OTHERS, *OF_TRAINING], coded=True))
        sources += [source for source in read_sources(folder) if source not in sources]
    table = pa.concat_tables(tables).unify_dictionaries()
    # A million rows are hundreds of megabytes, so that no column is there twice for long.
    tables.clear()
    coded = {}
    for name in (*_TEXTS, *_OTHERS[:3]):
        coded[name] = codes_of(table[name])
        table = table.drop_columns([name])
    targeted = table["targeted"].to_numpy()
    goal, attacked = coded.pop("label_source"), coded.pop("attacked_label")
    coded["goal"] = _goals(goal, attacked, targeted)
    coded |= _told_apart(coded["victim"], coded.pop("victim_fingerprint"), coded["threat"])
    victims = _trainings(coded["victim"], table)
    notes, flags = _counted(table["notes"])[0], table["flags"]
    synthetic = bool(pc.any(table["synthetic"]).as_py())
    table = table.select(_NUMBERS)
    numbers = {}
    for name in _NUMBERS:
        numbers[name] = table[name].cast(pa.float64()).to_numpy()
        table = table.drop_columns([name])
    pa.default_memory_pool().release_unused()
    kept = _first_of_each(coded, numbers)
    count = len(numbers["epsilon"])
    if len(kept) < count:
        coded = {name: (codes[kept], names) for name, (codes, names) in coded.items()}
        numbers = {name: values[kept] for name, values in numbers.items()}
        flags = flags.take(pa.array(kept))
    return Rows(
        texts={name: codes for name, (codes, _) in coded.items()},
        names={name: names for name, (_, names) in coded.items()},
        numbers=numbers,
        repeated=count - len(kept),
        notes=notes,
        flags=_counted(flags)[1],
        synthetic=synthetic,
        sources=sources,
        interval_over=interval_over,
        victims=victims,
    )


def _trainings(victim: Coded, table: pa.Table) -> dict[str, TrainingFacts]:
    """What any row of a victim tells of its training: rows of before it was recorded tell less."""
    texts = {name: codes_of(table[name]) for name in _TRAINING_TEXTS}
    numbers = {name: table[name].cast(pa.float64()).to_numpy() for name in _TRAINING_NUMBERS}
    found = {}
    occurring, first = np.unique(victim[0], return_index=True)
    for code in occurring[np.argsort(first)].tolist():
        own = victim[0] == code
        facts: dict[str, Any] = {}
        for name, (codes, words) in texts.items():
            known = np.flatnonzero(own & (codes >= 0))
            facts[name] = words[codes[known[0]]] if len(known) else None
        for name, values in numbers.items():
            known = np.flatnonzero(own & np.isfinite(values))
            facts[name] = values[known[0]] if len(known) else None
        found[victim[1][code]] = TrainingFacts.of(facts)
    return found


def _goals(source: Coded, attacked: Coded, targeted: Bool[np.ndarray, " rows"]) -> Coded:
    """What attacks are after: rows towards different targets are of different attacks."""
    codes = np.where(targeted, len(source[1]) + attacked[0], source[0])
    return codes, (*source[1], *(f"{TARGET} {name}" for name in attacked[1]))


def _told_apart(victim: Coded, fingerprint: Coded, threat: Coded) -> dict[str, Coded]:
    """Victims and threat models; victims of one name and different parameters, such as one that was
    trained again, have their fingerprint beside the name."""
    size = len(fingerprint[1])
    pairs, codes = np.unique(
        victim[0].astype(np.int64) * size + fingerprint[0], return_inverse=True
    )
    found = [(victim[1][pair // size], fingerprint[1][pair % size]) for pair in pairs.tolist()]
    counts = collections.Counter(name for name, _ in found)
    if max(counts.values()) == 1:
        return {"victim": victim, "threat": threat}
    names = tuple(f"{name} ({digits[:8]})" if counts[name] > 1 else name for name, digits in found)
    # The fingerprint of a threat model is known only where it is the victim as well.
    places = {name: place for place, name in enumerate(threat[1])}
    own = np.array([places.get(name, -1) for name in victim[1]])[victim[0]] == threat[0]
    threats = np.where(own, codes, len(names) + threat[0])
    return {"victim": (codes, names), "threat": (threats, (*names, *threat[1]))}


def _first_of_each(
    coded: Mapping[str, Coded], numbers: Mapping[str, Float[np.ndarray, " rows"]]
) -> Int[np.ndarray, " kept"]:
    """Places of the rows without those that repeat an earlier one.

    A folder given twice, or rows that were made once with and once without STOI, must not narrow
    the intervals.
    """
    key = numbered((*SETTING, "utterance", "seed"), coded, numbers)
    _, first = np.unique(key, return_index=True)
    return np.sort(first)


def _counted(column: pa.ChunkedArray) -> tuple[tuple[str, ...], dict[str, int]]:
    """The distinct entries of lists, and how often each occurs."""
    counts = pc.value_counts(pc.list_flatten(column)).to_pylist()
    return tuple(each["values"] for each in counts), {c["values"]: c["counts"] for c in counts}
