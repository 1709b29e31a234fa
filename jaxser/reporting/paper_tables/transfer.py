"""Threat models by attacks, scored on victims, in STAA-Net's layout."""

import collections
from collections.abc import Iterator, Sequence

import numpy as np

from jaxser.papers.transfer import Line, TransferTable, line_cells, published_cells
from jaxser.reporting.paper_tables.matching import candidates_of, of_entry
from jaxser.reporting.paper_tables.paper import GROUP, Paper, lacking, published_section
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, by
from jaxser.results.intervals import policy
from jaxser.results.metrics import mean_of_defined

__all__ = ["transfer_sections"]


def transfer_sections(rows: Rows, paper: Paper, table: TransferTable) -> Iterator[Section]:
    """A table for every corpus, and the paper's."""
    candidates = candidates_of(rows, "waveform", "prediction")
    lines: dict[str, list[Line]] = collections.defaultdict(list)
    for entry in table.attacks:
        found = by(of_entry(paper, entry, candidates), "corpus", "threat", "split")
        for (corpus, *_), group in found.items():
            lines[corpus] += _transfer_lines(rows, entry.title, group)
    for number_, (corpus, its) in enumerate(sorted(lines.items()), 1):
        ordered = sorted(its, key=lambda line: (line.threat, table.titles.index(line.attack)))
        yield Section(
            f"{table.title}; here on {corpus}",
            f"{paper.name}_{number_}",
            line_cells(ordered),
            "ASR: share of all utterances whose prediction changes. "
            f"{policy(rows.interval_over)}. SNR, changed samples and STOI are of those that fooled "
            "the threat model; s: seconds per utterance.",
            group=GROUP,
        )
    if not lines:
        yield Section(table.title, "", text=lacking("prediction", "waveform"), group=GROUP)
    if table.published:
        cells = published_cells(table)
        yield published_section(paper, table.title, table.corpus, cells, table.remark)


def _transfer_lines(rows: Rows, attack: str, group: Sequence[Setting]) -> Iterator[Line]:
    """A line for every ε that the threat model itself was attacked at."""
    for settings_ in by(group, "attack", "parameters", "epsilon_unit", "epsilon").values():
        own = [setting for setting in settings_ if not setting.transferred]
        if not own:
            continue
        where = own[0].where
        reached = where[rows.numbers["success"][where].astype(bool)]

        def mean(column: str, reached: np.ndarray = reached) -> float:
            return mean_of_defined(rows.numbers[column][reached])

        yield Line(
            threat=own[0].facts["threat"],
            attack=attack,
            part=own[0].facts["split"],
            utterances=own[0].utterances,
            snr=mean("snr_peak"),
            sparsity=mean("sparsity"),
            stoi=mean("stoi"),
            seconds=float(rows.numbers["seconds"][where].mean()),
            asr={setting.facts["victim"]: setting.outcomes.fooled for setting in settings_},
            corpus=own[0].facts["corpus"],
            notes=(),
        )
