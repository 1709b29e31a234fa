"""What certificates say, as text, tables, a curve and sections of a report.

for table in certified_sets(read_certificates(folder)):
    print(certificate_text(table))
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from jaxser.reporting.empirical import Empirical, empirical_lines, l2_rows, read_l2
from jaxser.reporting.figures.certificates import certified_figure
from jaxser.reporting.grouping import grouped
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.sections.victims import described
from jaxser.results.cells import Cells, aligned, interval, number
from jaxser.results.certificates import (
    abstained,
    certified_accuracy,
    clean_accuracy,
    has_certificates,
    plain_accuracy,
    power_snr,
    read_certificates,
)
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import policy
from jaxser.results.metrics import one_answer, told_apart
from jaxser.results.reading import has_rows
from jaxser.results.smoothing_bounds import largest_radius
from jaxser.results.training_facts import TrainingFacts
from jaxser.results.units import Over
from jaxser.runtime.text import capitalised, counted

__all__ = [
    "certificate_figure",
    "certificate_sections",
    "certificate_text",
    "certified_curve",
    "certified_sets",
    "certified_table",
    "curve_cells",
]

# What makes certificates one set.
_SET = (
    *("victim", "victim_fingerprint", "corpus", "split", "domain"),
    *("sigma", "samples0", "samples", "alpha", "seed"),
)

# Radii of the table, as multiples of σ, and of how many points a curve has.
_MULTIPLES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
_POINTS = 121


def certified_sets(table: pa.Table) -> list[pa.Table]:
    """Certificates of one victim, speech and noise together, each utterance once."""
    named = table.select(["utterance", *_SET]).to_pylist()
    places = grouped(range(len(named)), lambda i: tuple(named[i][name] for name in _SET))
    return [
        table.take(list({named[i]["utterance"]: i for i in reversed(where)}.values())[::-1])
        for where in places.values()
    ]


def certificate_text(table: pa.Table, over: Over = "utterance") -> str:
    """What one set says, and what it does not, for a terminal."""
    notes = dict.fromkeys(note for each in table["notes"].to_pylist() for note in each)
    notes |= dict.fromkeys(_oddities(table))
    return "\n".join(
        [
            _title(table),
            *(f"note: {note}" for note in notes),
            aligned(_accuracy_cells(table, over), left=1),
            "",
            aligned(_cells(table, over)),
            policy(over),
            *_meaning(table),
            *([_SNR] if table["domain"][0].as_py() == "waveform" else []),
        ]
    )


def certified_curve(table: pa.Table, over: Over) -> tuple[list[float], list[Estimate]]:
    """Radii from 0 to a little over what one set can certify, and the accuracies there."""
    radii = _curve_radii(table)
    return radii, list(certified_accuracy(table, radii, over))


def certificate_figure(
    table: pa.Table, lines: Sequence[Empirical] = (), over: Over = "utterance"
) -> Figure:
    """The curve of one set, below those of attacks."""
    radii, certified = certified_curve(table, over)
    return certified_figure(_title(table), radii, certified, lines, plain_accuracy(table, over))


def curve_cells(
    table: pa.Table, lines: Sequence[Empirical] = (), over: Over = "utterance"
) -> Cells:
    """The points of :func:`certificate_figure`, the header first."""
    radii, certified = certified_curve(table, over)
    curves = [("certified", tuple(radii), tuple(certified), len(table))]
    curves += [(line.label, line.epsilons, line.accuracies, line.utterances) for line in lines]
    return [
        ["curve", "l2", "accuracy", "low", "high", _inputs([table])],
        *(
            [name, f"{x:.6g}", *(f"{y:.6g}" for y in (at.value, at.low, at.high)), str(count)]
            for name, xs, ys, count in curves
            for x, at in zip(xs, ys, strict=True)
        ),
    ]


def certificate_sections(folders: Sequence[Path], over: Over = "utterance") -> Iterator[Section]:
    """A table of all sets of certificates in some folders, and the curve of each, beside those of
    L2 attacks on the same victims that the folders have rows of.

    Raises:
      InputError: files that are damaged.
    """
    found = [read_certificates(folder) for folder in folders if has_certificates(folder)]
    if not found:
        return
    sets = certified_sets(pa.concat_tables(found))
    group = "Certified accuracy"
    yield certified_table(sets, over, group=group)
    attacked = [read_l2(folder) for folder in folders if has_rows(folder)]
    for place, table in enumerate(sets, 1):
        facts = table.slice(0, 1).to_pylist()[0]
        rows = [l2_rows(each, facts) for each in attacked]
        lines = empirical_lines(pa.concat_tables(rows), table, over) if rows else []
        heard = [
            f"{line.label}: {line.utterances} of {_counted_inputs(table)}, accuracy "
            f"{line.accuracies[0].value:.0%} to {line.accuracies[-1].value:.0%}"
            for line in lines
        ]
        figures = "; ".join(": ".join(cells) for cells in _accuracy_cells(table, over)[1:])
        words = "; ".join(": ".join(cells) for cells in _cells(table, over)[1:])
        yield Section(
            capitalised(_title(table)),
            "",
            text=f"{capitalised(figures)}.",
            pictures=[
                Picture(
                    certificate_figure(table, lines, over),
                    f"Certified accuracy over the L2 radius: {'; '.join([words, *heard])}.",
                    f"certified_accuracy_{place}",
                )
            ],
            group=group,
        )


def certified_table(sets: Sequence[pa.Table], over: Over, *, group: str) -> Section:
    """A line for each set of :func:`certified_sets`.

    Args:
      sets: of any number of victims.
      over: what intervals are over.
      group: heading of the section.
    """
    said = dict.fromkeys(
        sentence for table in sets for sentence in [*_oddities(table), *_meaning(table)]
    )
    return Section(
        "Certified accuracy, by L2 radius in multiples of σ",
        "certified",
        cells=[_header(sets), *(_line(table, over) for table in sets)],
        text=f"{'. '.join(map(capitalised, [policy(over), *said]))}.",
        group=group,
    )


_SNR = "SNR: power SNR of a perturbation of that norm, of the median utterance"


def _header(sets: Sequence[pa.Table]) -> list[str]:
    return [
        *("victim", "speech", "σ", "draws", "α", _inputs(sets), "without noise", "smoothed"),
        *("abstains", *(f"{each:g} σ" for each in _MULTIPLES)),
    ]


def _line(table: pa.Table, over: Over) -> list[str]:
    """A set in the table of all."""
    first = table.slice(0, 1).to_pylist()[0]
    radii = _radii(table)
    reached = [interval(each) for each in certified_accuracy(table, radii, over)]
    domain = "" if first["domain"] == "waveform" else f", {first['domain']}"
    return [
        _named(first),
        f"{first['corpus']}, {first['split']}{domain}",
        number(first["sigma"], "g"),
        number(first["samples"], ","),
        number(first["alpha"], "g"),
        number(len(table), "d"),
        *(interval(each(table, over)) for each in (plain_accuracy, clean_accuracy, abstained)),
        *reached,
        *["–"] * (len(_MULTIPLES) - len(reached)),
    ]


def _title(table: pa.Table) -> str:
    first = table.slice(0, 1).to_pylist()[0]
    speakers = len(set(table["speaker"].to_pylist()))
    of = "" if first["domain"] == "waveform" else f"the {first['domain']} of "
    return (
        f"randomised smoothing of {of}{_named(first)}; {first['corpus']}, {first['split']}: "
        f"{_counted_inputs(table)}, {counted(speakers, 'speaker')}; "
        f"σ {first['sigma']:g}, {first['samples0']:,} + {first['samples']:,} draws, "
        f"α {first['alpha']:g}"
    )


def _counted_inputs(table: pa.Table) -> str:
    """How many certificates there are: windows and chunks are no utterances."""
    utterances = counted(len(set(table["source"].to_pylist())), "utterance")
    return f"{counted(len(table), 'input')} of {utterances}" if _is_cut(table) else utterances


def _inputs(sets: Sequence[pa.Table]) -> str:
    """What a column of numbers of certificates counts."""
    return "inputs" if any(map(_is_cut, sets)) else "utterances"


def _is_cut(table: pa.Table) -> bool:
    return table["source"].to_pylist() != table["utterance"].to_pylist()


def _named(first: Mapping[str, Any]) -> str:
    return described(first["victim"], TrainingFacts(first["defence"]))


def _accuracy_cells(table: pa.Table, over: Over) -> Cells:
    return [
        ["clean speech", f"of {_inputs([table])}"],
        ["accuracy without noise", interval(plain_accuracy(table, over))],
        ["accuracy, smoothed", interval(clean_accuracy(table, over))],
        ["smoothed, abstains", interval(abstained(table, over))],
    ]


def _cells(table: pa.Table, over: Over) -> Cells:
    """Certified accuracy by radius."""
    radii = _radii(table)
    heard = table["domain"][0].as_py() == "waveform"
    header = ["L2 radius", *(["SNR in dB"] if heard else []), "certified accuracy"]
    lines = []
    for radius, found in zip(radii, certified_accuracy(table, radii, over), strict=True):
        snr = [_snr(table, radius)] if heard else []
        lines.append([f"{radius:.4g}", *snr, interval(found)])
    return [header, *lines]


def _snr(table: pa.Table, radius: float) -> str:
    """Of the utterance in the middle: how loud a perturbation of this norm is."""
    if radius == 0:
        return "–"
    each = power_snr(np.full(len(table), radius), table["input_norm"].to_numpy())
    return number(float(np.nanmedian(each)) if np.isfinite(each).any() else math.nan, ".1f")


def _oddities(table: pa.Table) -> list[str]:
    """A vote that is the same for all has the largest radii, and they are worth nothing."""
    labels, answers = (table[name].to_pylist() for name in ("label", "prediction"))
    given = [each for each in answers if each is not None]
    answer = one_answer(labels, given)
    if answer is None:
        return []
    return [told_apart(f"smoothed, {table['victim'][0].as_py()}", answer, len(given))]


def _largest(table: pa.Table) -> float:
    first = table.slice(0, 1).to_pylist()[0]
    return largest_radius(first["sigma"], first["samples"], first["alpha"])


def _radii(table: pa.Table) -> list[float]:
    sigma, largest = table["sigma"][0].as_py(), _largest(table)
    return [0.0, *(each * sigma for each in _MULTIPLES[1:] if each * sigma <= largest)]


def _curve_radii(table: pa.Table) -> list[float]:
    """From 0 to a little over what so many draws can certify."""
    largest = _largest(table)
    furthest = 1.05 * largest if math.isfinite(largest) else table["sigma"][0].as_py()
    return np.linspace(0, furthest, _POINTS).tolist()


def _meaning(table: pa.Table) -> list[str]:
    """What the figures say, as sentences."""
    first = table.slice(0, 1).to_pylist()[0]
    domain, samples, alpha = first["domain"], first["samples"], first["alpha"]
    largest = _largest(table)
    others = "" if domain == "waveform" else ", nor of speech: it is no certificate of waveforms"
    reach = (
        f"no radius over {largest:.4g} can be certified with {samples:,} draws"
        if math.isfinite(largest)
        else f"{samples:,} draws are too few to certify any radius"
    )
    return [
        f"certified: no perturbation of the {domain} with an L2 norm below the radius changes the "
        "smoothed victim's answer, which is the label",
        f"the certificate is of the smoothed victim, and says nothing of the victim without noise"
        f"{others}",
        f"each utterance's radius holds with a probability of at least {1 - alpha:.6g} over the "
        f"draws of the noise; {reach}",
        "noisy inputs are not clipped to the bounds of an input",
    ]
