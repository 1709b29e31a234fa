"""Figures of attacks, made from rows: a line per attack, ε and part.

    print(format_table(summarise(read_rows("runs/demo"), by="gender")))

Every figure comes from rows, so it can be made again without an accelerator. The three ways to
count success are kept apart: fooling rate (share of all rows whose prediction changes, the ASR of
STAA-Net, arXiv 2402.01227), robust accuracy, and success on the rows that were right before. An
undefined value is NaN, with a count of the rows that had one.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.results.intervals import Estimate, bootstrap_interval
from jaxser.results.metrics import (
    Metric,
    accuracy,
    confusion_matrix,
    mean_of_defined,
    median_of_defined,
    ratio,
    uar,
)
from jaxser.results.schema import PARTS, epsilon_order
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["Summary", "summarise"]


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
      rows: how many.
      clean_accuracy, clean_uar: before the attack.
      robust_accuracy, robust_uar: after it.
      fooling_rate: share of all rows whose prediction changed.
      success_rate: share of all rows where the attack reached its goal (left the attacked label,
        or reached the target).
      correct: rows that were right before.
      success_on_correct: share of those that the attack reached its goal on; NaN without any.
      successful: rows whose prediction changed to what the attack wanted; the figures below it
        are over these alone, as STAA-Net has them.
      snr_peak_mean, snr_peak_median, snr_power_mean, snr_power_median: dB.
      stoi: mean intelligibility; NaN where it was not measured.
      snr_undefined: successful rows without an SNR (no signal, or no perturbation).
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
    clean_accuracy: Estimate
    clean_uar: Estimate
    robust_accuracy: Estimate
    robust_uar: Estimate
    fooling_rate: float
    success_rate: float
    correct: int
    success_on_correct: float
    successful: int
    snr_peak_mean: float
    snr_peak_median: float
    snr_power_mean: float
    snr_power_median: float
    stoi: float
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
    interval_over: Literal["utterance", "speaker"] = "utterance",
) -> list[Summary]:
    """A line per (attack, hyper-parameters, ε) and part, in that order; ε from weak to strong.

    Args:
      rows: with the SCHEMA.
      by: one of PARTS, or None for no split.
      interval_over: what the bootstrap draws: utterances, or whole speakers.

    Raises:
      UsageError: unknown ``by``.
    """
    if by is not None and by not in PARTS:
        raise UsageError(f"tables cannot be split by {by!r}; {nearest_name(by, PARTS)}")
    keys = ["attack", "parameters", "seed", "epsilon_unit", "epsilon"]
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


def _summary(rows: pa.Table, part: str, interval_over: Literal["utterance", "speaker"]) -> Summary:
    label, clean, robust = (
        np.array(rows[name].to_pylist(), object)
        for name in ("label", "clean_prediction", "prediction")
    )
    success = _column(rows, "success").astype(bool)
    right, changed = clean == label, robust != clean
    successful = success & changed
    snr = {name: _column(rows, name)[successful] for name in ("snr_peak", "snr_power")}
    groups = rows["speaker"].to_pylist() if interval_over == "speaker" else None
    found = _column(rows, "found_norm")
    return Summary(
        attack=rows["attack"][0].as_py(),
        parameters=rows["parameters"][0].as_py(),
        epsilon=rows["epsilon"][0].as_py(),
        epsilon_unit=rows["epsilon_unit"][0].as_py(),
        epsilon_norm=rows["epsilon_norm"][0].as_py(),
        part=part,
        rows=len(rows),
        clean_accuracy=_estimate(accuracy, label, clean, groups),
        clean_uar=_estimate(uar, label, clean, groups),
        robust_accuracy=_estimate(accuracy, label, robust, groups),
        robust_uar=_estimate(uar, label, robust, groups),
        fooling_rate=float(changed.mean()),
        success_rate=float(success.mean()),
        correct=int(right.sum()),
        success_on_correct=mean_of_defined(success[right]),
        successful=int(successful.sum()),
        snr_peak_mean=mean_of_defined(snr["snr_peak"]),
        snr_peak_median=median_of_defined(snr["snr_peak"]),
        snr_power_mean=mean_of_defined(snr["snr_power"]),
        snr_power_median=median_of_defined(snr["snr_power"]),
        stoi=mean_of_defined(_column(rows, "stoi")[successful]),
        snr_undefined=int(np.isnan(snr["snr_peak"]).sum()),
        sparsity=mean_of_defined(_column(rows, "sparsity")[successful]),
        linf=mean_of_defined(_column(rows, "linf")[successful]),
        l2=mean_of_defined(_column(rows, "l2")[successful]),
        found=int((~np.isnan(found)).sum()),
        found_norm_mean=mean_of_defined(found[found > 0]),
        found_norm_median=median_of_defined(found[found > 0]),
        queries=mean_of_defined(_column(rows, "queries")),
        gradients=mean_of_defined(_column(rows, "gradients")),
        no_prediction=int(sum(each is None for each in robust)),
        flags=dict(collections.Counter(itertools.chain(*rows["flags"].to_pylist()))),
        rows_per_second=float(ratio(len(rows), _column(rows, "seconds").sum())),
        compile_seconds=float(_column(rows, "compile_seconds").max()),
        compile_count=int(_column(rows, "compile_count").max()),
    )


def _estimate(
    metric: Metric, label: np.ndarray, predicted: np.ndarray, groups: Sequence[str] | None
) -> Estimate:
    # A missing prediction is a class of its own, which no utterance belongs to: always wrong.
    names = sorted({*label, *(each for each in predicted if each is not None)})
    index = {name: i for i, name in enumerate(names)} | {None: len(names)}
    truth = np.array([index[each] for each in label])
    guess = np.array([index[each] for each in predicted])
    count = len(names) + 1
    low, high = bootstrap_interval(metric, truth, guess, count, groups=groups)
    return Estimate(float(metric(confusion_matrix(truth, guess, count))), low, high)


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy())
