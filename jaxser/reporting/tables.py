"""Tables in the layout of papers, filled as far as rows exist, beside what the paper printed.

    papers = load_papers(paths, [])
    made = [section for paper in papers for section in paper_sections(rows, paper)]

Rows belong to a line of a table when the attack, all its hyper-parameters but the bounds (which are
the victim's), ε, the domain and the label attacked are those of the line.
"""

import collections
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.attacks import parameters
from jaxser.config import AttackCommandConfig, as_params, load_yaml
from jaxser.driver.named_attack import attack_of
from jaxser.papers.defence import DefenceTable, load_defence_table
from jaxser.papers.table import Attacked, Table, load_table, settings
from jaxser.papers.transfer import (
    Line,
    TransferTable,
    line_cells,
    load_transfer_table,
    published_cells,
)
from jaxser.reporting.data import Rows, Setting, split_by
from jaxser.reporting.page import Section, by, epsilon_text, number, percent
from jaxser.results.metrics import clustered_means
from jaxser.results.rows import mean_of_defined
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["Paper", "load_papers", "paper_sections", "seconds_in_papers"]

_LAYOUTS: Mapping[str, Callable[[Path], Any]] = {
    "genders": load_table,
    "transfer": load_transfer_table,
    "defended": load_defence_table,
    "epsilon": load_defence_table,
}
_GENDERS = ("female", "male")
_GROUP = "Tables of papers"


@dataclasses.dataclass(frozen=True)
class Paper:
    """A table file.

    Attributes:
      name: of the file, without folder and suffix.
      table: what it says.
      runs: title of a line -> its generators, or the victims that were hardened against it.
    """

    name: str
    table: Table | TransferTable | DefenceTable
    runs: Mapping[str, tuple[str, ...]]


def load_papers(paths: Sequence[Path], lines: Sequence[str]) -> list[Paper]:
    """Table files, and which run a line is of.

    Args:
      paths: of the files.
      lines: "LINE=RUN" each, with the title of a line of one of them.

    Raises:
      UsageError: what is not known, missing or impossible.
    """
    tables = {}
    for path in paths:
        layout = load_yaml(path).get("layout", "genders")
        if layout not in _LAYOUTS:
            raise UsageError(f"{path} has layout {layout!r}; {nearest_name(str(layout), _LAYOUTS)}")
        tables[path.stem] = _LAYOUTS[layout](path)
    titles = [entry.title for table in tables.values() for entry in table.attacks]
    runs: dict[str, tuple[str, ...]] = {}
    for text in lines:
        title, equals, run = text.partition("=")
        if not (equals and run):
            raise UsageError(f"--line {text!r} is not of the form LINE=RUN.")
        if title not in titles:
            raise UsageError(f"--line {text!r} is for no line; {nearest_name(title, titles)}")
        runs[title] = (*runs.get(title, ()), str(Path(run)))
    return [Paper(name, table, runs) for name, table in tables.items()]


def paper_sections(rows: Rows, paper: Paper) -> Iterator[Section]:
    """The paper's table of what was measured, and what it printed."""
    if isinstance(paper.table, TransferTable):
        yield from _transfer(rows, paper, paper.table)
    elif isinstance(paper.table, DefenceTable):
        yield from _defence(rows, paper, paper.table)
    else:
        yield from _genders(rows, paper, paper.table)


@functools.cache
def _parameters(attack: str, params: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Name and hyper-parameters, as rows have them."""
    made: Any = attack_of(AttackCommandConfig(attack=attack, params=params))
    return made.name, json.loads(json.dumps(parameters(made)))


def _of_entry(paper: Paper, entry: Attacked, candidates: Sequence[Setting]) -> list[Setting]:
    """The settings that are of a line of the table."""
    if entry.attack == "staanet" and "generator" not in entry.parameters:
        return [setting for setting in candidates if _is_generator(setting, paper, entry)]
    wanted = []
    for grid in settings(entry):
        values = {**entry.parameters, **grid}
        name, known = _parameters(entry.attack, as_params(values))
        wanted.append((name, {k: v for k, v in known.items() if k != "bounds" or k in values}))
    return [
        setting
        for setting in candidates
        if _has_epsilon(setting, entry) and any(_is_attack(setting, *each) for each in wanted)
    ]


def _is_attack(setting: Setting, name: str, wanted: Mapping[str, Any]) -> bool:
    if setting.facts["attack"] != name:
        return False
    found = json.loads(setting.facts["parameters"])
    return all(key in found and found[key] == value for key, value in wanted.items())


def _is_generator(setting: Setting, paper: Paper, entry: Attacked) -> bool:
    """Whether a line without a generator may be of these rows: of any, where it is the only one."""
    if setting.facts["attack"] != "staanet" or not _has_epsilon(setting, entry):
        return False
    generator = json.loads(setting.facts["parameters"])["generator"]
    if entry.title in paper.runs:
        return any(run in generator.split() for run in paper.runs[entry.title])
    return sum(each.attack == "staanet" for each in paper.table.attacks) == 1


def _has_epsilon(setting: Setting, entry: Attacked) -> bool:
    if not entry.epsilon:
        return True
    if setting.facts["epsilon_unit"] != "amplitude":
        return False
    # As many digits as a file gives.
    return any(
        math.isclose(setting.facts["epsilon"], value, rel_tol=1e-6) for value in entry.epsilon
    )


def _candidates(rows: Rows, domain: str, goal: str) -> list[Setting]:
    facts = {"domain": domain, "goal": goal}
    return [s for s in rows.settings if all(s.facts[k] == v for k, v in facts.items())]


def _lacking(goal: str, domain: str) -> str:
    return (
        f"No rows are of the attacks of this table, which leave the {goal} and change the {domain}."
    )


# Attacks by corpora, for all, female and male utterances.


def _genders(rows: Rows, paper: Paper, table: Table) -> Iterator[Section]:
    own = [s for s in _candidates(rows, table.domain, table.y) if not s.transferred]
    chosen: list[tuple[str, Setting]] = []
    for entry in table.attacks:
        found = by(_of_entry(paper, entry, own), "victim", "corpus", "split")
        # The strongest setting; of equals, the one with the smallest change.
        chosen += [
            (entry.title, min(each, key=lambda s: _strength(rows, s))) for each in found.values()
        ]
    about = {
        "accuracy": (
            "accuracy",
            ".3f",
            lambda where: float(_right(rows, where, "prediction").mean()),
        ),
        "mean_abs": (
            "mean absolute change",
            ".3g",
            lambda where: mean_of_defined(rows.numbers["mean_abs"][where]),
        ),
    }
    for name, (title, form, figure) in about.items():
        header = ["victim", "data set", "attack", "setting", "rows", "all", *_GENDERS]
        cells = [[*header, "paper: all", *(f"paper: {gender}" for gender in _GENDERS)]]
        if name == "accuracy":
            cells += _before(rows, table, [setting for _, setting in chosen])
        for attack, setting in sorted(chosen, key=lambda each: each[1].facts["corpus"]):
            facts = setting.facts
            figures = [number(value, form) for value in _by_gender(rows, setting, figure)]
            line = [facts["victim"], facts["corpus"], attack]
            line += [f"{setting.label}, ε {epsilon_text(setting)}", str(len(setting.where))]
            printed = _printed(rows, table, facts["corpus"], attack, name, form)
            cells.append([*line, *figures, *printed])
        text = "Of each attack the setting that leaves the least accuracy."
        yield Section(
            f"{table.title}: {title}",
            f"{paper.name}_{name}",
            cells if len(cells) > 1 else [],
            text if chosen else _lacking(table.y, table.domain),
            group=_GROUP,
        )


def _before(rows: Rows, table: Table, chosen: Sequence[Setting]) -> Iterator[list[str]]:
    """Lines of the victims before any attack."""
    for (victim, corpus, _), group in by(chosen, "victim", "corpus", "split").items():
        largest = max(group, key=lambda setting: len(setting.where))
        figures = _by_gender(
            rows, largest, lambda where: float(_right(rows, where, "clean_prediction").mean())
        )
        shown = [number(value, ".3f") for value in figures]
        printed = _printed(rows, table, corpus, "original", "accuracy", ".3f")
        yield [victim, corpus, "original", "–", str(len(largest.where)), *shown, *printed]


def _by_gender(
    rows: Rows, setting: Setting, figure: Callable[[np.ndarray], float]
) -> Iterator[float]:
    """Of all, female and male rows; NaN without such rows."""
    yield figure(setting.where)
    parts = dict(split_by(rows, "gender", setting.where))
    for gender in _GENDERS:
        yield figure(parts[gender]) if gender in parts else math.nan


def _right(rows: Rows, where: np.ndarray, column: str) -> np.ndarray:
    return np.asarray(rows.words(column, where) == rows.words("label", where))


def _strength(rows: Rows, setting: Setting) -> tuple[float, float]:
    change = mean_of_defined(rows.numbers["mean_abs"][setting.where])
    return setting.figures["accuracy"][1].value, change


def _printed(rows: Rows, table: Table, corpus: str, attack: str, name: str, form: str) -> list[str]:
    """What the paper has for all, female and male; dashes where it has nothing."""
    names = {source["corpus"]["title"]: source["corpus"]["name"] for source in rows.sources}
    figures = table.published.get(names.get(corpus, ""), {}).get(attack)
    values = getattr(figures, name) if figures else ()
    return [number(value, form) for value in values] or ["–"] * (1 + len(_GENDERS))


# Threat models by attacks, scored on victims.


def _transfer(rows: Rows, paper: Paper, table: TransferTable) -> Iterator[Section]:
    candidates = _candidates(rows, "waveform", "prediction")
    lines: dict[str, list[Line]] = collections.defaultdict(list)
    for entry in table.attacks:
        found = by(_of_entry(paper, entry, candidates), "corpus", "threat", "split")
        for (corpus, *_), group in found.items():
            lines[corpus] += _transfer_lines(rows, entry.title, group)
    for number_, (corpus, its) in enumerate(sorted(lines.items()), 1):
        ordered = sorted(its, key=lambda line: (line.threat, table.titles.index(line.attack)))
        yield Section(
            f"{table.title}; here on {corpus}",
            f"{paper.name}_{number_}",
            line_cells(ordered),
            "ASR: share of all utterances whose prediction changes, with 95 % intervals over "
            "speakers and utterances. SNR, changed samples and STOI are of those that fooled the "
            "threat model; s: seconds per utterance.",
            group=_GROUP,
        )
    if not lines:
        yield Section(table.title, "", text=_lacking("prediction", "waveform"), group=_GROUP)
    if table.published:
        yield Section(
            f"{table.title}, as published, on {table.corpus}",
            f"{paper.name}_published",
            published_cells(table),
            group=_GROUP,
        )


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
            utterances=len(where),
            snr=mean("snr_peak"),
            sparsity=mean("sparsity"),
            stoi=mean("stoi"),
            seconds=float(rows.numbers["seconds"][where].mean()),
            asr={setting.facts["victim"]: _rate(rows, setting) for setting in settings_},
            corpus=own[0].facts["corpus"],
            notes=(),
        )


def _rate(rows: Rows, setting: Setting) -> tuple[float, float, float]:
    """Share fooled, with its interval over speakers and utterances."""
    clean, found = (rows.words(c, setting.where) for c in ("clean_prediction", "prediction"))
    fooled = np.asarray(clean != found)
    draws = clustered_means(fooled, rows.texts["speaker"][setting.where])
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(fooled.mean()), float(low), float(high)


# Undefended and defended models.


def _defence(rows: Rows, paper: Paper, table: DefenceTable) -> Iterator[Section]:
    own = [s for s in _candidates(rows, table.domain, table.y) if not s.transferred]
    cells = [["corpus", *table.header]]
    for (corpus, model), group in _by_model(own).items():
        make = _over_epsilon if table.layout == "epsilon" else _beside_undefended
        cells += [[corpus, model, *line] for line in make(paper, table, group)]
    yield Section(
        table.title,
        paper.name,
        cells if len(cells) > 1 else [],
        "Average: train and test part together. Success: the share of the accuracy that the attack "
        "takes."
        if len(cells) > 1
        else _lacking(table.y, table.domain),
        group=_GROUP,
    )
    if table.published:
        printed = [[_figure(value) for value in line] for line in table.published]
        yield Section(
            f"{table.title}, as published, on {table.corpus}",
            f"{paper.name}_published",
            [table.header, *printed],
            group=_GROUP,
        )


def _by_model(own: Sequence[Setting]) -> dict[tuple[str, str], list[Setting]]:
    """By corpus and architecture, which victims' names begin with."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for setting in own:
        model = setting.facts["victim"].partition(" ")[0]
        groups.setdefault((setting.facts["corpus"], model), []).append(setting)
    return groups


def _beside_undefended(
    paper: Paper, table: DefenceTable, group: Sequence[Setting]
) -> Iterator[list[str]]:
    for entry in table.lines:
        found = _of_entry(paper, entry, group)
        plain = _Outcome.of([s for s in found if not _hardened(s, paper.runs)])
        hard = _Outcome.of([s for s in found if _hardened(s, paper.runs, entry.title)])
        if not (plain.parts or hard.parts):
            continue
        before = [hard.accuracy(0, "test"), hard.accuracy(0)]
        shares = [*plain.figures(), *before, *hard.figures()]
        yield [entry.title, *map(percent, shares)]


def _over_epsilon(
    paper: Paper, table: DefenceTable, group: Sequence[Setting]
) -> Iterator[list[str]]:
    columns = [entry for entry in table.attacks if entry.title in table.columns]
    for entry in table.lines:
        hardened = [s for s in group if _hardened(s, paper.runs, entry.title)]
        candidates = hardened or [s for s in group if not _hardened(s, paper.runs)]
        found = _of_entry(paper, entry, candidates)
        for (epsilon,), settings_ in by(found, "epsilon").items():
            outcome = _Outcome.of(settings_)
            shares = [outcome.accuracy(0), outcome.success()]
            for column in columns:
                others = _of_entry(paper, column, candidates)
                # An attack that has no such ε is the same at all.
                same = [s for s in others if s.facts["epsilon"] == epsilon] or others
                shares.append(_Outcome.of(same).success())
            defence = entry.title if hardened else "none"
            yield [defence, f"{epsilon:.4g}", *map(percent, shares)]


def _hardened(
    setting: Setting, runs: Mapping[str, tuple[str, ...]], title: str | None = None
) -> bool:
    """Whether a victim was trained against the attack of a line, or of any."""
    folder = setting.facts["victim"].partition(" ")[2]
    folders = runs.get(title, ()) if title else [run for each in runs.values() for run in each]
    return folder in folders


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """Right before, right after, and rows: of the train and of the test part."""

    parts: Mapping[str, tuple[int, int, int]]

    @classmethod
    def of(cls, found: Sequence[Setting]) -> "_Outcome":
        """Of each part the setting that leaves the least accuracy."""
        parts = {}
        for (part,), group in by(found, "split").items():
            worst = min(group, key=lambda setting: setting.figures["accuracy"][1].value)
            before, after = (int(np.trace(matrix)) for matrix in (worst.before, worst.after))
            parts[part] = (before, after, len(worst.where))
        return cls(parts)

    def accuracy(self, after: int, part: str | None = None) -> float:
        """Before (0) or after (1) the attack, of a part or of both; NaN without all its rows."""
        names = ("train", "test") if part is None else (part,)
        if not all(name in self.parts for name in names):
            return math.nan
        counts = np.sum([self.parts[name] for name in names], axis=0)
        return float(counts[after] / counts[2])

    def success(self, part: str | None = None) -> float:
        """The share of the accuracy that the attack takes; NaN where there was none."""
        before = self.accuracy(0, part)
        return 1 - self.accuracy(1, part) / before if before > 0 else math.nan

    def figures(self) -> list[float]:
        """Accuracy and success, of the test part and of both: test, both, test, both."""
        accuracy = [self.accuracy(1, "test"), self.accuracy(1)]
        return [*accuracy, self.success("test"), self.success()]


def _figure(value: Any) -> str:
    return number(value, ".4g") if isinstance(value, float) else str(value)


def seconds_in_papers(papers: Sequence[Paper]) -> dict[str, str]:
    """Attack, by name and by title of its line -> what papers say that it took, and on what."""
    found: dict[str, list[str]] = {}
    for paper in papers:
        for entry in paper.table.attacks:
            told = _seconds(paper.table, entry.title)
            for name in {_registry_name(entry), entry.title} if told else ():
                found.setdefault(name, []).append(told)
    return {attack: "; ".join(dict.fromkeys(texts)) for attack, texts in found.items()}


def _registry_name(entry: Attacked) -> str:
    if entry.attack.endswith((".yaml", ".yml")):
        return str(load_yaml(Path(entry.attack))["name"])
    return entry.attack


def _seconds(table: Any, title: str) -> str:
    if isinstance(table, TransferTable):
        values = [
            value
            for figures in table.published.values()
            if title in figures
            for value in figures[title].seconds
        ]
        unit = "per utterance"
    elif isinstance(table, Table):
        values, unit = list(table.published_seconds.get(title, ())), "for a test set"
    else:
        return ""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = f"{low:,g}" if low == high else f"{low:,g}–{high:,g}"
    on = f"on {table.hardware}" if table.hardware else "hardware not named"
    return f"{span} s {unit}, {on} ({table.title})"
