"""A report as one HTML page: the answer, its picture, what to know of it, the rest, and last what
was run.

write_text(out, html_document([(runs, rows)], made))
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.reporting import html as html_page
from jaxser.reporting.figures.canvas import figure_svg
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.sections.victims import described
from jaxser.reporting.warnings import failures, warnings_of
from jaxser.runtime.version import __version__

__all__ = ["html_document"]

_RUN = "What was run"

# Of rows whose files do not say what made them.
_UNTOLD = "not in these rows"


def html_document(loaded: Sequence[tuple[list[Path], Rows]], made: Sequence[Section]) -> str:
    """The whole page.

    Args:
      loaded: folders that are one thing, with their rows; none for a page of speed alone.
      made: sections, in the order of the page; neighbours of one group stand under one heading.
    """
    titles = [section.group or section.title for section in made]
    named = dict.fromkeys([*titles, *([_RUN] if loaded else [])])
    anchors = {title: f"section-{place}" for place, title in enumerate(named, 1)}
    leading = _leading(made)
    body: list[str] = []
    before = ""
    # What has been explained once is not explained again below.
    explained: set[str] = set()
    for place, (title, section) in enumerate(zip(titles, made, strict=True)):
        if place == leading:
            body += _notes(loaded, made)
            body.append(html_page.contents({anchor: name for name, anchor in anchors.items()}))
        if title != before:
            body.append(html_page.heading(title, anchors[title]))
        if title != section.title:
            body.append(html_page.heading(section.title, part=True))
        body += _section(section, explained)
        before = title
    if loaded:
        body.append(html_page.heading(_RUN, anchors[_RUN]))
    for runs, rows in loaded:
        body += [html_page.facts(_what_was_run(runs, rows)), _attacks(rows)]
        body += _configs(rows)
    return html_page.page(_title(loaded, made), body)


def _leading(made: Sequence[Section]) -> int:
    """How many sections stand before the notes and the contents: the answer and its picture."""
    if not made or made[0].name != "answer":
        return 0
    return 2 if len(made) > 1 and made[1].pictures and not made[1].cells else 1


def _notes(loaded: Sequence[tuple[list[Path], Rows]], made: Sequence[Section]) -> Iterator[str]:
    """What a reader must know, each once: what a card has said already is left out."""
    said = {doubt for section in made for card in section.cards for doubt in card.doubts}
    warnings = dict.fromkeys(
        text for runs, rows in loaded for text in (*failures(runs), *warnings_of(rows))
    )
    for warning in warnings:
        if warning not in said:
            yield html_page.paragraph(warning, note=True)


def _title(loaded: Sequence[tuple[list[Path], Rows]], made: Sequence[Section]) -> str:
    """What the page is of."""
    if loaded:
        victims = list(dict.fromkeys(name for _, rows in loaded for name in rows.victims))
        return f"Robustness of {victims[0]}" if len(victims) == 1 else "Robustness report"
    speed = all(section.name == "speed_peers" for section in made)
    return "Speed report" if speed else "Certificates"


def _section(section: Section, explained: set[str]) -> Iterator[str]:
    if section.cards:
        yield html_page.cards(section.cards)
    elif section.cells:
        yield html_page.table(section.cells, section.title, hidden=True)
    if section.pictures:
        yield html_page.drawings(
            [figure_svg(picture.figure, picture.words) for picture in section.pictures]
        )
    for caption, wav in section.audio.items():
        yield html_page.audio(wav, caption, section.title)
    sentences = [each for each in _sentences(section.text) if each not in explained]
    explained.update(sentences)
    if sentences:
        yield html_page.paragraph(" ".join(sentences), small=True)


def _sentences(text: str) -> list[str]:
    """Each with its full stop."""
    return re.split(r"(?<=\.) (?=[A-Z0-9])", text) if text else []


def _what_was_run(runs: Sequence[Path], rows: Rows) -> dict[str, str]:
    seeds = np.unique(rows.numbers["seed"]).astype(int)
    corpora = {_corpus(source["corpus"]) for source in rows.sources}
    return {
        "folders": ", ".join(map(str, runs)),
        "rows": f"{len(rows):,}",
        "corpora": ", ".join(rows.distinct("corpus")),
        "fingerprints": "; ".join(sorted(corpora)) or _UNTOLD,
        "parts": ", ".join(rows.distinct("split")),
        "victims": ", ".join(described(name, facts) for name, facts in rows.victims.items()),
        "utterances": f"{len(rows.distinct('utterance')):,}",
        "ε": ", ".join(rows.epsilons.values()),
        "seeds": ", ".join(map(str, seeds)),
        "devices": ", ".join(rows.distinct("device")),
        "versions": "; ".join(sorted({_versions(source) for source in rows.sources})) or _UNTOLD,
        "report": f"jaxser {__version__}",
    }


def _attacks(rows: Rows) -> str:
    """A table of all hyper-parameters."""
    cells = [["attack", "hyper-parameters"]]
    for name, parameters in rows.attacks:
        values = json.loads(parameters)
        told = ", ".join(f"{key} {value}" for key, value in values.items())
        cells.append([rows.labels[name, parameters], told])
    return html_page.table(cells, "Attacks")


def _corpus(corpus: Mapping[str, Any]) -> str:
    split, seed, fold = corpus["split"]
    print_ = corpus["fingerprint"][:16]
    return f"{corpus['title']}: {print_}, split {split} (seed {seed}, fold {fold})"


def _versions(source: Mapping[str, Any]) -> str:
    environment = source["environment"]
    packages = [f"{name} {version}" for name, version in environment["packages"].items()]
    revision = environment["git_revision"]
    own = f"jaxser {environment['jaxser']}" + (f" ({revision[:10]})" if revision else "")
    return ", ".join([own, f"Python {environment['python']}", *packages])


def _configs(rows: Rows) -> Iterator[str]:
    """What was the same in the configs of all rows, and a table of what was not."""
    configs = [_flat(source["config"]) for source in rows.sources]
    if not configs:
        return
    differ = [key for key in configs[0] if len({each[key] for each in configs}) > 1]
    same = ", ".join(f"{k} {v}" for k, v in configs[0].items() if k not in differ and v != "–")
    yield html_page.paragraph(f"Configs: {same}.")
    if differ:
        lines = dict.fromkeys(tuple(each[key] for key in differ) for each in configs)
        yield html_page.table([differ, *lines], "Where the configs differ")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Fields as flags have them."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found[prefix + key] = " ".join(map(str, value)) or "–"
        else:
            found[prefix + key] = "–" if value is None else str(value)
    return found
