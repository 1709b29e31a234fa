"""A summary as aligned text, with the notes that a reader needs to read it right.

print(format_table(summarise(read_rows("runs/demo"))))
"""

import collections
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from jaxser.results.cells import interval, number, percent
from jaxser.results.fitted import fitted
from jaxser.results.intervals import policy
from jaxser.results.robustness import Worst
from jaxser.results.schema import epsilon_names, epsilon_unit_text
from jaxser.results.summary import Summary
from jaxser.results.units import Over
from jaxser.runtime.terminal import wrapped

__all__ = ["DROPPED", "format_table", "legend", "summary_table"]

_UNDEFINED = "n/a"
_NOTHING = "–"  # has no meaning in this line

# Columns that leave a terminal that is too narrow for all, the first one first.
DROPPED = (
    *("rows/s", "passes", "SNR power", "sparsity", "clean UAR", "dB change", "off colour"),
    *("utterances", "± seeds", "STOI", "rows", "clean acc", "on correct", "SNR peak", "fooled"),
    *("robust UAR", "target reached"),
)


def format_table(
    lines: Sequence[Summary], over: Over = "utterance", width: int | None = None
) -> str:
    """Text of a summary, with the notes a reader needs to read it right.

    Args:
      lines: of :func:`jaxser.results.summary.summarise`.
      over: what their intervals are over.
      width: of the terminal that the table is to fit; None for all columns.

    Examples:
      >>> import jaxser
      >>> lines = jaxser.results.summarise(jaxser.results.read_rows("attacked"), by="gender")
      >>> print(jaxser.results.format_table(lines).splitlines()[0])
      attack ...
    """
    return wrapped("\n".join([summary_table(lines, width), *legend(lines, over)]), width)


def summary_table(lines: Sequence[Summary], width: int | None = None) -> str:
    """The table alone, and what is odd about these rows, without the legend.

    Columns that would be empty in all lines (parts, targets, STOI, smallest perturbations, what
    several seeds have) are left out; see :data:`DROPPED` for those that leave a narrow terminal.

    Args:
      lines: of :func:`jaxser.results.summary.summarise`.
      width: of the terminal that the table is to fit; None for all columns.
    """
    columns = _columns(lines)
    cells = [list(columns)]
    for line in lines:
        cells.append([cell(line) for cell in columns.values()])
        if line.worst is not None:
            worst = _worst(line, line.worst, columns)
            cells.append([worst.get(header, _NOTHING) for header in columns])
    table = fitted(cells, width, kept=["robust acc"], dropped=DROPPED)
    return "\n".join([table, *_remarks(lines)])


def legend(lines: Sequence[Summary], over: Over = "utterance") -> list[str]:
    """What the columns of one or several tables of these lines mean: sentences to print once.

    Args:
      lines: of all tables.
      over: what their intervals are over.
    """
    heard = any(not math.isnan(line.stoi) for line in lines)
    text = [
        policy(over),
        "fooled: prediction changed, of all rows; on correct: attack succeeded, of the rows that "
        "were right before",
        f"SNR (dB, mean/median){', STOI' if heard else ''} and sparsity over the successful rows "
        "alone: the prediction changed to what the attack wanted",
    ]
    if any(line.seeds > 1 for line in lines):
        text.append(
            "± seeds: standard deviation of robust accuracy over the seeds; worst seed: an "
            "utterance is right where it is right under all seeds"
        )
    if any(not math.isnan(line.colour_distance) for line in lines):
        text.append(
            "off colour: mean distance of a pixel to the colour map; what is off it is no "
            "spectrogram, so no sound belongs to it. dB change: what the nearest spectrogram keeps "
            "of the attack, mean over its cells"
        )
    if any(line.found for line in lines):
        text.append(
            "found: an adversarial perturbation of whatever size; smallest: its norm (mean/median) "
            "over the rows that needed one"
        )
    return text


def _columns(lines: Sequence[Summary]) -> dict[str, Callable[[Summary], str]]:
    """Header -> what a line has below it."""
    found = any(line.found for line in lines)
    heard = any(not math.isnan(line.stoi) for line in lines)
    split = any(line.part for line in lines)
    seeds = any(line.seeds > 1 for line in lines)
    several = seeds or any(line.utterances < line.rows for line in lines)
    targeted = any(json.loads(line.parameters).get("targeted") for line in lines)
    units = {epsilon_unit_text(line.epsilon_unit, line.epsilon_norm) for line in lines}
    mixed = len(units) > 1
    written = epsilon_names((line.epsilon for line in lines), digits=6)
    epsilon = "epsilon" if mixed else f"epsilon ({units.pop()})"
    columns: dict[str, Callable[[Summary], str] | None] = {
        "attack": lambda line: line.attack,
        epsilon: lambda line: _epsilon(line, written, mixed),
        "part": (lambda line: line.part) if split else None,
        "rows": lambda line: str(line.rows),
        "utterances": (lambda line: str(line.utterances)) if several else None,
        "clean acc": lambda line: percent(line.clean_accuracy.value, _UNDEFINED),
        "clean UAR": lambda line: percent(line.clean_uar.value, _UNDEFINED),
        "robust acc": lambda line: interval(line.robust_accuracy, _UNDEFINED),
        "± seeds": (lambda line: percent(line.seed_deviation, _UNDEFINED)) if seeds else None,
        "robust UAR": lambda line: interval(line.robust_uar, _UNDEFINED),
        "fooled": lambda line: percent(line.fooling_rate, _UNDEFINED),
        "on correct": lambda line: percent(line.success_on_correct, _UNDEFINED),
        "target reached": (lambda line: percent(line.target_reached, _UNDEFINED))
        if targeted
        else None,
        "SNR peak": lambda line: _both(line.snr_peak_mean, line.snr_peak_median, ".1f"),
        "SNR power": lambda line: _both(line.snr_power_mean, line.snr_power_median, ".1f"),
        "sparsity": lambda line: percent(line.sparsity, _UNDEFINED),
        "STOI": (lambda line: number(line.stoi, ".3f", _UNDEFINED)) if heard else None,
        "off colour": (lambda line: number(line.colour_distance, ".3f", _UNDEFINED))
        if any(not math.isnan(line.colour_distance) for line in lines)
        else None,
        "dB change": (lambda line: number(line.decibel_change, ".1f", _UNDEFINED))
        if any(not math.isnan(line.decibel_change) for line in lines)
        else None,
        "found": (lambda line: percent(line.found / line.rows, _UNDEFINED)) if found else None,
        "smallest": _smallest if found else None,
        "passes": lambda line: number(line.queries, ".1f", _UNDEFINED),
        "rows/s": lambda line: number(line.rows_per_second, ".1f", _UNDEFINED),
    }
    return {header: cell for header, cell in columns.items() if cell is not None}


def _epsilon(line: Summary, written: Mapping[float, str], mixed: bool) -> str:
    """ε, with its unit where the lines of a table have several; else the heading says it."""
    unit = f" {epsilon_unit_text(line.epsilon_unit, line.epsilon_norm)}" if mixed else ""
    return f"{written[line.epsilon]}{unit}"


def _worst(
    line: Summary, worst: Worst, columns: Mapping[str, Callable[[Summary], str]]
) -> dict[str, str]:
    """Cells of the line of the worst seed, by header; budget and part are those of the line."""
    same = {
        header: cell(line)
        for header, cell in columns.items()
        if header.startswith("epsilon") or header == "part"
    }
    return {
        **same,
        "attack": f"{line.attack}, worst seed",
        "rows": str(line.rows),
        "utterances": str(line.utterances),
        "robust acc": interval(worst.accuracy, _UNDEFINED),
        "robust UAR": interval(worst.uar, _UNDEFINED),
        "fooled": percent(worst.fooled.value, _UNDEFINED),
        "on correct": percent(worst.on_correct.value, _UNDEFINED),
        "target reached": percent(worst.reached.value, _UNDEFINED),
    }


def _both(mean: float, median: float, form: str) -> str:
    if math.isnan(mean) and math.isnan(median):
        return _UNDEFINED
    return f"{number(mean, form, _UNDEFINED)}/{number(median, form, _UNDEFINED)}"


def _smallest(line: Summary) -> str:
    if math.isnan(line.found_norm_mean):
        return _UNDEFINED
    return f"{line.epsilon_norm} {_both(line.found_norm_mean, line.found_norm_median, '.3g')}"


def _remarks(lines: Sequence[Summary]) -> Iterator[str]:
    undefined = sum(line.snr_undefined for line in lines)
    if undefined:
        yield f"{undefined} successful rows have no SNR: no signal, or no perturbation"
    repeated = sum(line.repeated for line in lines)
    if repeated:
        yield f"{repeated} rows were there more than once, and are counted once"
    flags: collections.Counter[str] = collections.Counter()
    for line in lines:
        flags.update(line.flags)
    for name, count in sorted(flags.items()):
        yield f"{count} of {sum(line.rows for line in lines)} rows flagged: {name}"
