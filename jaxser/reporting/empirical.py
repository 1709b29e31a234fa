"""Accuracy under L2 attacks, to be drawn above what is certified of the same victim.

    lines = empirical_lines(Path("runs/emo18/attacks"), certificates)
    lines[0].label, lines[0].epsilons, lines[0].accuracies

What an attack has found bounds the robustness of a victim from above, and a certificate that of the
smoothed victim from below. Rows of the victim without noise are lines of their own.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.reporting.grouping import grouped
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share
from jaxser.results.reading import read_rows
from jaxser.results.units import Over, Units
from jaxser.runtime.errors import InputError, UsageError

__all__ = ["Empirical", "check_rows", "empirical_lines", "l2_rows", "read_l2"]

_LOG = logging.getLogger(__name__)

_COLUMNS = (
    *("victim", "victim_fingerprint", "threat", "corpus", "split", "domain"),
    *("utterance", "source", "speaker", "label", "clean_prediction", "prediction"),
    *("attack", "parameters_hash", "targeted", "smoothing", "smoothing_samples"),
    *("epsilon", "epsilon_unit", "epsilon_norm", "found_norm"),
)

# What rows and certificates have to agree in, and what a sentence calls it.
_SAME = {"domain": "the {}", "corpus": "{}", "split": "the {} part"}


@dataclasses.dataclass(frozen=True)
class Empirical:
    """One attack on one victim, plain or smoothed.

    Attributes:
      label: of the attack and the noise.
      epsilons: L2 norms, from 0, which is before the attack.
      accuracies: of the utterances that are certified, as many.
      utterances: how many of them were attacked.
    """

    label: str
    epsilons: tuple[float, ...]
    accuracies: tuple[Estimate, ...]
    utterances: int


def l2_rows(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """The rows of untargeted L2 attacks on the victim of a certificate; there may be none.

    Args:
      table: rows.
      facts: ``victim_fingerprint``, ``domain``, ``corpus``, ``split`` and ``sigma``.
    """
    table = _of_noise(_on_victim(table, facts), facts)
    for name in _SAME:
        table = table.filter(pc.equal(table[name], facts[name]))
    for name, value in (("epsilon_norm", "l2"), ("epsilon_unit", "amplitude"), ("targeted", False)):
        table = table.filter(pc.equal(table[name], value))
    return table.filter(pc.equal(table["threat"], table["victim"]))


def check_rows(folder: Path, facts: Mapping[str, Any]) -> pa.Table:
    """:func:`l2_rows` in a folder.

    Args:
      folder: of rows.
      facts: as there, and ``victim``.

    Raises:
      InputError: none is of this victim, domain, corpus and part; files that are damaged.
      UsageError: none is of an L2 attack.
    """
    table = read_l2(folder)
    found = l2_rows(table, facts)
    own = _on_victim(table, facts)
    if len(found):
        _say_left_out(folder, own, facts)
        return found
    if not len(own):
        others = sorted(set(table["victim"].to_pylist()))
        raise InputError(
            f"the rows in {folder} are of {', '.join(others)} and none is of {facts['victim']} as "
            "it is now; give --rows of attacks on this run."
        )
    for name, form in _SAME.items():
        there = sorted(set(own[name].to_pylist()))
        own = own.filter(pc.equal(own[name], facts[name]))
        if not len(own):
            raise InputError(
                f"the rows in {folder} are of {form.format(', '.join(there))}, and the certificate "
                f"is of {form.format(facts[name])}; give --rows of attacks on that."
            )
    if not len(_of_noise(own, facts)):
        raise UsageError(
            f"the rows in {folder} are of the victim smoothed with σ {_sigmas(own)}, and the "
            f"certificate is of σ {facts['sigma']:g}; give --rows of attacks with --smoothing "
            f"{facts['sigma']:g}, or without noise."
        )
    norms = sorted(set(own["epsilon_norm"].to_pylist()))
    raise UsageError(
        f"the rows in {folder} bound perturbations by {', '.join(norms)}, and a certificate is of "
        "their L2 norm; give --rows of an untargeted L2 attack with an epsilon in amplitude, such "
        "as pgd --params norm=l2."
    )


def read_l2(folder: Path) -> pa.Table:
    """Rows with the columns that are needed here."""
    return read_rows(folder, _COLUMNS)


def _on_victim(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """The rows of the certified variables, with noise or without."""
    # With JAX, which a report needs for nothing else.
    from jaxser.victims.smoothing import smoothed_fingerprint

    own = facts["victim_fingerprint"]
    noise = table.select(["smoothing", "smoothing_samples"]).group_by(
        ["smoothing", "smoothing_samples"]
    )
    smoothed = [
        smoothed_fingerprint(own, each["smoothing"], each["smoothing_samples"])
        for each in noise.aggregate([]).to_pylist()
        if not _is_plain(each)
    ]
    plain = pc.fill_null(pc.is_nan(table["smoothing"]), True)
    fingerprint = table["victim_fingerprint"]
    return table.filter(
        pc.or_(
            pc.and_(plain, pc.equal(fingerprint, own)),
            pc.is_in(fingerprint, pa.array(smoothed, pa.string())),
        )
    )


def _of_noise(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """Rows without noise, and those under the noise of the certificate."""
    return table.filter(pc.invert(_of_other_noise(table, facts)))


def _of_other_noise(table: pa.Table, facts: Mapping[str, Any]) -> pa.ChunkedArray:
    smoothed = pc.fill_null(pc.is_finite(table["smoothing"]), False)
    return pc.and_(smoothed, pc.fill_null(pc.not_equal(table["smoothing"], facts["sigma"]), False))


def _say_left_out(folder: Path, own: pa.Table, facts: Mapping[str, Any]) -> None:
    others = own.filter(_of_other_noise(own, facts))
    if len(others):
        _LOG.warning(
            "%d of the rows in %s are of the victim smoothed with σ %s and left out: the "
            "certificate is of σ %g.",
            len(others),
            folder,
            _sigmas(others),
            facts["sigma"],
        )


def _sigmas(table: pa.Table) -> str:
    found = sorted({each for each in table["smoothing"].to_pylist() if each == each})
    return ", ".join(f"{each:g}" for each in found)


def empirical_lines(
    rows: pa.Table, certificates: pa.Table, over: Over = "utterance"
) -> list[Empirical]:
    """A line for every attack, on the utterances that are certified too.

    Args:
      rows: of :func:`l2_rows`.
      certificates: of one set of settings.
      over: what intervals are over.
    """
    certified = set(certificates["utterance"].to_pylist())
    listed = [row for row in rows.to_pylist() if row["utterance"] in certified]
    names = grouped(listed, lambda row: row["attack"])
    several = {
        name for name, its in names.items() if len({row["parameters_hash"] for row in its}) > 1
    }
    made = []
    for key, group in grouped(listed, _line).items():
        attack, parameters, sigma, samples = key
        label = f"{attack} ({parameters})" if attack in several else attack
        of = f"smoothed, σ {sigma:g}, {samples} draws" if sigma is not None else "without noise"
        points = dict(_points(group, over))
        made.append(
            Empirical(
                label=f"{label}, victim {of}",
                epsilons=tuple(points),
                accuracies=tuple(points.values()),
                utterances=len({row["utterance"] for row in group}),
            )
        )
    return made


def _points(group: list[dict[str, Any]], over: Over) -> Iterator[tuple[float, Estimate]]:
    """Accuracy by ε, from before the attack on."""
    yield 0.0, _share(group, "clean_prediction", over)
    for epsilon, rows in sorted(grouped(group, lambda row: row["epsilon"]).items()):
        if math.isfinite(epsilon):
            yield epsilon, _share(rows, "prediction", over)
            continue
        # Of an attack that looks for the smallest perturbation: each is an ε at which it succeeds.
        norms = np.array([row["found_norm"] for row in rows], float)
        norms[np.array([row["clean_prediction"] != row["label"] for row in rows])] = 0.0
        for reached in np.unique(norms[np.isfinite(norms) & (norms > 0)]):
            yield float(reached), share(~(norms <= reached), _units(rows, over))


def _share(rows: list[dict[str, Any]], column: str, over: Over) -> Estimate:
    return share(np.array([row[column] == row["label"] for row in rows]), _units(rows, over))


def _units(rows: list[dict[str, Any]], over: Over) -> Units:
    names = {name: [row[name] for row in rows] for name in ("utterance", "speaker", "source")}
    return Units.of(names["utterance"], names["speaker"], over, sources=names["source"])


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes rows one line."""
    noise = (None, None) if _is_plain(row) else (row["smoothing"], row["smoothing_samples"])
    return (row["attack"], row["parameters_hash"], *noise)


def _is_plain(row: Mapping[str, Any]) -> bool:
    return row["smoothing"] is None or math.isnan(row["smoothing"])
