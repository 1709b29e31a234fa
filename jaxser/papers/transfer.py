"""Tables of transfer: attacks on threat models, scored on victims, in STAA-Net's layout.

    table = load_transfer_table(Path("configs/tables/staa_net_table4.yaml"))
    line_cells(lines), published_cells(table)         # the header first

Chang et al., "STAA-Net" (arXiv 2402.01227), Tables 4 to 6.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxser.config import load_yaml
from jaxser.papers.table import Attacked, read_table, settings
from jaxser.results.cells import interval
from jaxser.results.estimate import Estimate
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = [
    "Figures",
    "Line",
    "TransferTable",
    "line_cells",
    "load_transfer_table",
    "matched_share",
    "open_line",
    "published_cells",
]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a paper printed of one attack on one threat model: one value per part, in order.

    Attributes:
      snr: peak SNR in dB.
      sparsity: share of changed samples.
      seconds: per utterance.
      asr: attack success rate, by the name of a victim.
    """

    snr: tuple[float, ...] = ()
    sparsity: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    asr: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TransferTable:
    """A table file.

    Attributes:
      title: of the table.
      layout: of the paper's tables.
      corpus: that the paper's figures are of.
      parts: of the corpus, in the order of the paper's figures.
      attacks: its lines.
      published: name of a threat model -> name of a line -> figures.
      hardware: that the paper's seconds are of; STAA-Net's paper names none.
      remark: a sentence that must stand beside the paper's figures.
    """

    title: str = ""
    layout: Literal["transfer"] = "transfer"
    corpus: str = ""
    parts: tuple[str, ...] = ("val", "test")
    attacks: list[Attacked] = dataclasses.field(default_factory=list)
    published: dict[str, dict[str, Figures]] = dataclasses.field(default_factory=dict)
    hardware: str = ""
    remark: str = ""

    @property
    def titles(self) -> list[str]:
        return [entry.title for entry in self.attacks]


def load_transfer_table(path: Path) -> TransferTable:
    """Read a table file; UsageError for what is not known or missing."""
    layout = load_yaml(path).get("layout", "transfer")
    if layout != "transfer":
        raise UsageError(
            f"{path} has the layout {layout!r}, and transfer makes tables of the layout "
            "'transfer'; give it to python -m jaxser.evaluate."
        )
    table = read_table(TransferTable, path)
    for entry in table.attacks:
        if len(list(settings(entry))) > 1 or len(entry.epsilon) > 1:
            raise UsageError(f"{path}: {entry.title} must have one setting; list it twice instead.")
    return table


def matched_share(table: TransferTable, asked: str | None) -> float | str | None:
    """The share of changed samples to arrive at, or the title of the line that has it.

    Args:
      table: that the line is of.
      asked: of the command line, or None.

    Raises:
      UsageError: neither a share nor a line.
    """
    if asked is None or asked in table.titles:
        return asked
    try:
        share = float(asked)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(
            f"--match_sparsity {asked} is neither a share above 0 and up to 1, such as 0.125, nor "
            f"a line that is made; {nearest_name(asked, table.titles)}"
        )
    return share


@dataclasses.dataclass(frozen=True)
class Line:
    """One attack on one threat model and one part.

    Attributes:
      threat, attack, part: what was attacked, and with what.
      utterances: attacked; 0 of a line that is left open.
      snr, sparsity, stoi: means over those that fooled the threat model; NaN without any.
      seconds: per utterance, steady state.
      asr: by victim: fooling rate, the share of all utterances whose prediction changes.
      corpus: what the utterances are of.
      notes: remarks that the figures must carry.
    """

    threat: str
    attack: str
    part: str
    utterances: int
    snr: float
    sparsity: float
    stoi: float
    seconds: float
    asr: dict[str, Estimate]
    corpus: str
    notes: tuple[str, ...]


def open_line(threat: str, attack: str, part: str, corpus: str) -> Line:
    """A line whose generator is missing."""
    nan = math.nan
    return Line(
        threat=threat,
        attack=attack,
        part=part,
        utterances=0,
        snr=nan,
        sparsity=nan,
        stoi=nan,
        seconds=nan,
        asr={},
        corpus=corpus,
        notes=(f"left open: {attack} on {threat} has no generator; give --generator LINE=RUN",),
    )


def _header(names: Sequence[str]) -> list[str]:
    folders = [Path(name) for name in names]
    # The last part of a path is what people look for, where it tells them apart.
    short = len({folder.name for folder in folders}) == len(folders)
    victims = [f"ASR {folder.name if short else folder}" for folder in folders]
    return ["threat model", "attack", "part", "n", "SNR dB", "changed", "STOI", "s", *victims]


def line_cells(lines: Sequence[Line]) -> list[list[str]]:
    """Cells of the figures made here, the header first; rates with their intervals."""
    names = list(dict.fromkeys(name for line in lines for name in line.asr))
    return [
        _header(names),
        *(
            [
                *(line.threat, line.attack, line.part),
                *(str(line.utterances or "–"),),
                *(
                    _shown(line.snr, ".2f"),
                    _shown(line.sparsity, ".2%"),
                    _shown(line.stoi, ".3f"),
                    _shown(line.seconds, ".3g"),
                ),
                *(interval(line.asr[name]) if name in line.asr else "–" for name in names),
            ]
            for line in lines
        ),
    ]


def _shown(value: float, form: str) -> str:
    """A dash for what is not defined."""
    return "–" if math.isnan(value) else format(value, form)


def published_cells(table: TransferTable) -> list[list[str]]:
    """Cells of the paper's figures, a line per threat model, attack and part."""
    names = list(
        dict.fromkeys(
            name
            for attacks in table.published.values()
            for figures in attacks.values()
            for name in figures.asr
        )
    )
    header = ["threat model", "attack", "part", "SNR dB", "changed", "s"]
    cells = [[*header, *(f"ASR {name}" for name in names)]]
    for threat, attacks in table.published.items():
        for attack, figures in attacks.items():
            for index, part in enumerate(table.parts):
                its = (figures.snr, figures.sparsity, figures.seconds)
                snr, sparsity, seconds = (v[index] if v else float("nan") for v in its)
                shown = [_shown(snr, ".2f"), _shown(sparsity, ".2%"), _shown(seconds, "g")]
                cells.append(
                    [
                        *(threat, attack, part),
                        *shown,
                        *(
                            f"{figures.asr[name][index]:.1%}" if name in figures.asr else "–"
                            for name in names
                        ),
                    ]
                )
    return cells
