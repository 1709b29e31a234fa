"""Figures of attacks, made from rows: a line per attack, ε and part.

    print(format_table(summarise(read_rows("runs/demo"), by="gender")))

Every figure comes from rows, so it can be made again without an accelerator. Fooling rate, robust
accuracy and success on what was right before are kept apart, see :mod:`jaxser.results.robustness`,
and intervals are of utterances or speakers however many rows they have, see
:mod:`jaxser.results.intervals`. An undefined value is NaN, with a count of the rows that had one.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.results.estimate import Estimate
from jaxser.results.metrics import mean_of_defined, median_of_defined, ratio
from jaxser.results.robustness import Robustness, Worst
from jaxser.results.schema import PARTS, epsilon_order
from jaxser.results.units import UNNAMED, Over, Units
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["Summary", "outcomes_of", "summarise"]


# What tells rows of one line apart, beside a target.
_KEY = [
    *("victim", "victim_fingerprint", "threat", "corpus", "split", "domain", "label_source"),
    *("epsilon_norm", "utterance", "seed"),
]


@dataclasses.dataclass(frozen=True)
class Summary:
    """One line of a table: the rows of one attack at one ε (and in one part).

    Attributes:
      attack: registry name.
      parameters: its hyper-parameters as JSON.
      epsilon: the budget.
      epsilon_unit: "amplitude", or dB as "snr_peak" or "snr_power".
      epsilon_norm: norm that it bounds.
      part: value of the column that the table is split by, or "".
      rows: how many, each once.
      repeated: rows that were left out, since the same row was there already.
      utterances: whole ones that they are of; an utterance or each of its chunks counts as one, as
        the mean of its rows.
      seeds: how many.
      clean_accuracy, clean_uar: before the attack.
      robust_accuracy, robust_uar: after it.
      seed_deviation: standard deviation of robust accuracy over the seeds; NaN of one.
      worst: of every utterance the worst seed; None of one.
      fooling_rate: share of all whose prediction changed.
      target_reached: share of all that the attack took to its target; NaN without a target.
      correct: rows that were right before.
      success_on_correct: share of those that the attack reached its goal on (left the attacked
        label, or reached the target); NaN without any.
      successful: rows whose prediction changed to what the attack wanted; the figures below it
        are over these alone, as STAA-Net has them.
      snr_peak_mean, snr_peak_median, snr_power_mean, snr_power_median: dB.
      stoi: mean intelligibility; NaN where it was not measured.
      snr_undefined: successful rows without an SNR (no signal, or no perturbation).
      colour_distance, decibel_change: of attacks on images: mean distance of a pixel to the colour
        map, and mean change of the nearest spectrogram; NaN of others.
      dead_gradients: of attacks through images: mean share of cells without a gradient, of all
        rows.
      sparsity: mean share of changed samples.
      linf, l2: mean norms of the perturbation.
      found: rows for which an attack that looks for the smallest perturbation found one.
      found_norm_mean, found_norm_median: its norm (that of ``epsilon_norm``, whatever ε), where
        one was needed: not for rows that are what the attack wants to begin with.
      queries, gradients: mean passes per row, over all rows.
      no_prediction: rows whose adversarial logits are not finite.
      flags: rows per flag.
      rows_per_second: steady state.
      compile_seconds, compile_count: of the run among the rows that compiled most.
    """

    attack: str
    parameters: str
    epsilon: float
    epsilon_unit: str
    epsilon_norm: str
    part: str
    rows: int
    repeated: int
    utterances: int
    seeds: int
    clean_accuracy: Estimate
    clean_uar: Estimate
    robust_accuracy: Estimate
    robust_uar: Estimate
    seed_deviation: float
    worst: Worst | None
    fooling_rate: float
    target_reached: float
    correct: int
    success_on_correct: float
    successful: int
    snr_peak_mean: float
    snr_peak_median: float
    snr_power_mean: float
    snr_power_median: float
    stoi: float
    colour_distance: float
    decibel_change: float
    dead_gradients: float
    snr_undefined: int
    sparsity: float
    linf: float
    l2: float
    found: int
    found_norm_mean: float
    found_norm_median: float
    queries: float
    gradients: float
    no_prediction: int
    flags: Mapping[str, int]
    rows_per_second: float
    compile_seconds: float
    compile_count: int


def summarise(
    rows: pa.Table,
    *,
    by: str | None = None,
    interval_over: Over = "utterance",
) -> list[Summary]:
    """A line per (attack, hyper-parameters, ε) and part, in that order; ε from weak to strong.

    Rows of several seeds are of one line.

    Args:
      rows: with the SCHEMA.
      by: one of PARTS, or None for no split.
      interval_over: what a sample is made of: utterances, or whole speakers.

    Raises:
      UsageError: unknown ``by`` or ``interval_over``.

    Examples:
      >>> import jaxser
      >>> line, = jaxser.results.summarise(jaxser.results.read_rows("attacked"))
      >>> line.attack, line.epsilon, line.rows, round(line.robust_accuracy.value, 3)
      ('pgd', 0.01, 7, 0.286)
    """
    if by is not None and by not in PARTS:
        raise UsageError(f"tables cannot be split by {by!r}; {nearest_name(by, PARTS)}")
    keys = ["attack", "parameters", "epsilon_unit", "epsilon"]
    keys += [PARTS[by]] if by else []
    lines = []
    for values in sorted(rows.group_by(keys).aggregate([]).select(keys).to_pylist(), key=_order):
        chosen = np.ones(len(rows), bool)
        for key, value in values.items():
            chosen &= np.asarray(pc.equal(rows[key], pa.scalar(value, rows[key].type)))
        part = values[PARTS[by]] if by else ""
        lines.append(_summary(rows.filter(pa.array(chosen)), part, interval_over))
    return lines


def _order(values: Mapping[str, Any]) -> tuple[Any, ...]:
    ordered = {**values, "epsilon": epsilon_order(values["epsilon_unit"], values["epsilon"])}
    return tuple("" if value is None else value for value in ordered.values())


def _summary(rows: pa.Table, part: str, interval_over: Over) -> Summary:
    given, rows = len(rows), _each_once(rows)
    outcomes = outcomes_of(rows, interval_over)
    successful = outcomes.success & outcomes.changed
    snr = {name: _column(rows, name)[successful] for name in ("snr_peak", "snr_power")}
    found = _column(rows, "found_norm")
    return Summary(
        attack=rows["attack"][0].as_py(),
        parameters=rows["parameters"][0].as_py(),
        epsilon=rows["epsilon"][0].as_py(),
        epsilon_unit=rows["epsilon_unit"][0].as_py(),
        epsilon_norm=rows["epsilon_norm"][0].as_py(),
        part=part,
        rows=len(rows),
        repeated=given - len(rows),
        utterances=outcomes.units.sources,
        seeds=len(outcomes.by_seed),
        clean_accuracy=outcomes.before["accuracy"],
        clean_uar=outcomes.before["UAR"],
        robust_accuracy=outcomes.after["accuracy"],
        robust_uar=outcomes.after["UAR"],
        seed_deviation=outcomes.deviation,
        worst=outcomes.worst if len(outcomes.by_seed) > 1 else None,
        fooling_rate=outcomes.fooled.value,
        target_reached=outcomes.reached.value,
        correct=int((outcomes.clean == outcomes.label).sum()),
        success_on_correct=outcomes.on_correct.value,
        successful=int(successful.sum()),
        snr_peak_mean=mean_of_defined(snr["snr_peak"]),
        snr_peak_median=median_of_defined(snr["snr_peak"]),
        snr_power_mean=mean_of_defined(snr["snr_power"]),
        snr_power_median=median_of_defined(snr["snr_power"]),
        stoi=mean_of_defined(_column(rows, "stoi")[successful]),
        colour_distance=mean_of_defined(_column(rows, "colour_distance")[successful]),
        decibel_change=mean_of_defined(_column(rows, "decibel_change")[successful]),
        dead_gradients=mean_of_defined(_column(rows, "dead_gradients")),
        snr_undefined=int(np.isnan(snr["snr_peak"]).sum()),
        sparsity=mean_of_defined(_column(rows, "sparsity")[successful]),
        linf=mean_of_defined(_column(rows, "linf")[successful]),
        l2=mean_of_defined(_column(rows, "l2")[successful]),
        found=int((~np.isnan(found)).sum()),
        found_norm_mean=mean_of_defined(found[found > 0]),
        found_norm_median=median_of_defined(found[found > 0]),
        queries=mean_of_defined(_column(rows, "queries")),
        gradients=mean_of_defined(_column(rows, "gradients")),
        no_prediction=rows["prediction"].null_count,
        flags=dict(collections.Counter(itertools.chain(*rows["flags"].to_pylist()))),
        rows_per_second=float(ratio(len(rows), _column(rows, "seconds").sum())),
        compile_seconds=float(_column(rows, "compile_seconds").max()),
        compile_count=int(_column(rows, "compile_count").max()),
    )


def _each_once(rows: pa.Table) -> pa.Table:
    """Without rows that repeat an earlier one, as reports have them: they must not narrow
    intervals, nor weigh more."""
    target = pc.if_else(rows["targeted"], rows["attacked_label"], pa.scalar(None, pa.string()))
    keyed = rows.select(_KEY).append_column("target", target)
    keyed = keyed.append_column("place", pa.array(np.arange(len(rows))))
    first = keyed.group_by([*_KEY, "target"]).aggregate([("place", "min")])["place_min"]
    return rows if len(first) == len(rows) else rows.take(np.sort(first.to_numpy()))


def outcomes_of(rows: pa.Table, over: Over) -> Robustness:
    """What became of rows, with the figures that are made of them.

    Args:
      rows: each once.
      over: what a sample is made of.
    """
    named = [rows[name].to_pylist() for name in ("label", "clean_prediction", "prediction")]
    classes = sorted({name for column in named for name in column if name is not None})
    # A missing prediction is a class of its own, which no utterance belongs to: always wrong.
    place = {name: i for i, name in enumerate(classes)} | {None: len(classes)}
    label, clean, found = (np.array([place[each] for each in column]) for column in named)
    # The ids of utterances, and the names of speakers, are those of a corpus.
    utterances = _within_corpus(rows, "utterance")
    return Robustness(
        classes=tuple(classes),
        label=label,
        clean=clean,
        found=found,
        success=_column(rows, "success").astype(bool),
        seeds=_column(rows, "seed"),
        targeted=bool(pc.any(rows["targeted"]).as_py()),
        units=Units.of(
            utterances,
            _within_corpus(rows, "speaker"),
            over,
            sources=_within_corpus(rows, "source"),
        ),
    )


def _within_corpus(rows: pa.Table, column: str) -> np.ndarray:
    """A code for every name in a corpus; -1 where nobody has one."""
    pairs = list(zip(rows["corpus"].to_pylist(), rows[column].to_pylist(), strict=True))
    codes = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    unnamed = column == "speaker"
    return np.array([-1 if unnamed and p[1] in UNNAMED else codes[p] for p in pairs])


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy())
