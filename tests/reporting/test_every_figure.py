"""Every figure that a command prints, computed by hand; a column without an oracle fails.

The rows are of three seeds, two ε, an utterance that is there twice, and a class that nobody has.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rows_by_hand as hand
from rows_by_hand import Row

from jaxser.corpora import Utterance
from jaxser.experiments import transfer as experiment
from jaxser.papers.table import Table
from jaxser.papers.transfer import TransferTable, line_cells
from jaxser.reporting.compare import comparison
from jaxser.reporting.evaluation.differences import genders
from jaxser.reporting.evaluation.outcomes import Clean, Line, outcomes_of
from jaxser.reporting.evaluation.tables import at_snr, settings_csv, strongest, victims
from jaxser.reporting.loading import load
from jaxser.reporting.page import sections
from jaxser.reporting.transfer import format_transfer
from jaxser.results.cells import Cells
from jaxser.results.intervals import policy
from jaxser.results.schema import SCHEMA
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.results.units import Over
from jaxser.results.writing import RowWriter

Oracle = Callable[[Sequence[Row]], Any]
OTHER = "other runs/y"
UNITS: tuple[Over, ...] = ("utterance", "speaker")


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1%}"


def reached(rows: Sequence[Row]) -> list[Row]:
    """Rows that changed to what the attack wanted."""
    return [row for row in rows if row["success"] and hand.changed(row)]


def of_reached(column: str, form: str) -> Oracle:
    return lambda rows: format(mean([row[column] for row in reached(rows)]), form)


def both(column: str) -> Oracle:
    def found(rows: Sequence[Row]) -> str:
        values = sorted(row[column] for row in reached(rows))
        half = len(values) // 2
        median = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
        return f"{mean(values):.1f}/{median:.1f}"

    return found


def accuracy(after: bool) -> Oracle:
    return lambda rows: hand.share(rows, hand.right_after if after else hand.right_before)


def recall(column: str) -> Oracle:
    return lambda rows: hand.recall_mean(rows, column)


def count(column: str) -> Oracle:
    return lambda rows: str(len({row[column] for row in rows}))


def fooled(rows: Sequence[Row]) -> float:
    return hand.share(rows, hand.changed)


def dash(rows: Sequence[Row]) -> str:
    return "–"


def near(values: Sequence[float], q: float) -> float:
    """Linear interpolation between the ranked values."""
    ranked = sorted(values)
    place = q * (len(ranked) - 1)
    low = int(place)
    return ranked[low] + (place - low) * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low])


def queries(q: float) -> Oracle:
    return lambda rows: f"{near([row['queries'] for row in rows], q):,.4g}"


class Interval:
    """An oracle of a share and its interval: Wilson's, or that of whole units drawn one by one."""

    def __init__(self, figure: Oracle, kind: Callable[[Row], bool] | None = None) -> None:
        self.figure, self.kind = figure, kind

    def check(self, cell: str, rows: Sequence[Row], over: Over) -> None:
        value, low, high = parsed(cell)
        assert value == pytest.approx(self.figure(rows), abs=6e-4)
        assert low <= value <= high
        assert high - low > 0.05
        shares = list(hand.per_utterance(rows, self.kind).values()) if self.kind else [0.5]
        if over == "utterance" and set(shares) <= {0.0, 1.0}:
            assert (low, high) == pytest.approx(hand.wilson(sum(shares), len(shares)), abs=6e-4)
            return
        plain = hand.interval(rows, self.figure, over)
        # Without width where all units are alike, and then none that is printed.
        if plain[1] - plain[0] > 0.01:
            assert (low, high) == pytest.approx(plain, abs=0.12)


def parsed(cell: str) -> tuple[float, float, float]:
    value, low, high = re.fullmatch(r"(.*)% \((.*)%–(.*)%\)", cell).groups()  # type: ignore[union-attr]
    return float(value) / 100, float(low) / 100, float(high) / 100


ROBUST_ACCURACY = Interval(accuracy(True), hand.right_after)
ROBUST_UAR = Interval(recall("prediction"))

ATTACK: dict[str, Oracle | Interval] = {
    "attack": lambda rows: rows[0]["attack"],
    "epsilon (L∞)": lambda rows: f"{rows[0]['epsilon']:g}",
    "rows": lambda rows: str(len(rows)),
    "utterances": count("utterance"),
    "clean acc": lambda rows: percent(accuracy(False)(rows)),
    "clean UAR": lambda rows: percent(recall("clean_prediction")(rows)),
    "robust acc": ROBUST_ACCURACY,
    "± seeds": lambda rows: percent(hand.over_seeds(rows)),
    "robust UAR": ROBUST_UAR,
    "fooled": lambda rows: percent(fooled(rows)),
    "on correct": lambda rows: percent(hand.on_correct(rows)),
    "SNR peak": both("snr_peak"),
    "SNR power": both("snr_power"),
    "sparsity": lambda rows: percent(mean([row["sparsity"] for row in reached(rows)])),
    "passes": lambda rows: f"{mean([row['queries'] for row in rows]):.1f}",
    "rows/s": lambda rows: f"{1 / mean([row['seconds'] for row in rows]):.1f}",
}

# Of the worst seed of every utterance; the rows that the line is of are all of them.
WORST: dict[str, Oracle | Interval] = {
    "attack": lambda rows: f"{rows[0]['attack']}, worst seed",
    "epsilon (L∞)": ATTACK["epsilon (L∞)"],
    "rows": lambda rows: "24",
    "utterances": count("utterance"),
    "robust acc": ROBUST_ACCURACY,
    "robust UAR": ROBUST_UAR,
    "fooled": lambda rows: percent(hand.share(rows, lambda row: row["fooled"])),
    "on correct": ATTACK["on correct"],
    **{
        name: lambda rows: "–"
        for name in ATTACK
        if name.startswith(("clean", "SNR", "±")) or name in ("sparsity", "passes", "rows/s")
    },
}

NAMED: dict[str, Oracle | Interval] = {
    "victim": lambda rows: rows[0]["victim"],
    "speech": lambda rows: "Made up, test",
    "attack": lambda rows: rows[0]["attack"],
    "ε": lambda rows: f"{rows[0]['epsilon']:.4g}",
    "norm": lambda rows: "L∞",
}

ROBUSTNESS: dict[str, Oracle | Interval] = {
    **NAMED,
    "rows": ATTACK["rows"],
    "utterances": count("utterance"),
    "seeds": count("seed"),
    "± over seeds": ATTACK["± seeds"],
    "robust accuracy": ROBUST_ACCURACY,
    "robust UAR": ROBUST_UAR,
    "robust macro F1": Interval(lambda rows: hand.f1_mean(rows, "prediction")),
    "fooled": ATTACK["fooled"],
    "on correct": ATTACK["on correct"],
    "SNR peak dB": of_reached("snr_peak", ".1f"),
    "SNR power dB": of_reached("snr_power", ".1f"),
    "changed": of_reached("sparsity", ".1%"),
    "STOI": dash,
    "queries": lambda rows: f"{mean([row['queries'] for row in rows]):,.4g}",
}

WORST_LINE: dict[str, Oracle | Interval] = {
    **dict.fromkeys(ROBUSTNESS, dash),
    **NAMED,
    **{name: WORST[name] for name in ("attack", "rows", "utterances", "fooled", "on correct")},
    "seeds": lambda rows: "3",
    "robust accuracy": ROBUST_ACCURACY,
    "robust UAR": ROBUST_UAR,
}

PARTS: dict[str, Oracle | Interval] = {
    **NAMED,
    "rows": ATTACK["rows"],
    "accuracy before": Interval(accuracy(False), hand.right_before),
    "robust accuracy": ROBUST_ACCURACY,
}

TRANSFER: dict[str, Oracle | Interval] = {
    "threat model": lambda rows: rows[0]["threat"],
    **NAMED,
    "rows": ATTACK["rows"],
    "fooled": Interval(fooled, hand.changed),
    "robust accuracy": ROBUST_ACCURACY,
}

CLEAN: dict[str, Oracle | Interval] = {
    "victim": NAMED["victim"],
    "corpus": lambda rows: rows[0]["corpus"],
    "part": lambda rows: rows[0]["split"],
    "domain": lambda rows: rows[0]["domain"],
    "utterances": count("utterance"),
    "accuracy": Interval(accuracy(False), hand.right_before),
    "UAR": Interval(recall("clean_prediction")),
    "macro F1": Interval(lambda rows: hand.f1_mean(rows, "clean_prediction")),
}

QUERIES: dict[str, Oracle | Interval] = {
    **NAMED,
    "5 %": queries(0.05),
    "median": queries(0.5),
    "95 %": queries(0.95),
    "mean": ROBUSTNESS["queries"],
}

SPEED: dict[str, Oracle | Interval] = {
    **{name: NAMED[name] for name in ("victim", "speech", "attack")},
    "device": lambda rows: rows[0]["device"],
    "rows": ATTACK["rows"],
    "s per row": lambda rows: f"{mean([row['seconds'] for row in rows]):.3g}",
    "rows/s": lambda rows: f"{1 / mean([row['seconds'] for row in rows]):,.4g}",
    "queries/s": lambda rows: (
        f"{sum(row['queries'] for row in rows) / sum(row['seconds'] for row in rows):,.4g}"
    ),
    "compilation s": lambda rows: f"{max(row['compile_seconds'] for row in rows):.1f}",
}


def check(
    header: Sequence[str],
    line: Sequence[str],
    oracles: dict[str, Oracle | Interval],
    rows: Sequence[Row],
    over: Over,
) -> None:
    assert set(header) == set(oracles), "every column has an oracle"
    for name, cell in zip(header, line, strict=True):
        oracle = oracles[name]
        if isinstance(oracle, Interval):
            oracle.check(cell, rows, over)
        else:
            assert cell == oracle(rows), name


def at(rows: Sequence[Row], **facts: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in facts.items())]


@pytest.fixture(scope="module", params=UNITS)
def over(request: pytest.FixtureRequest) -> Over:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return hand.made()


@pytest.fixture(scope="module")
def page(over: Over, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tables of a report by name, of a victim, noise, and another victim that hears the first."""
    folder = tmp_path_factory.mktemp("rows")
    with RowWriter(folder) as writer:
        for rows in (hand.made(), hand.made(attack="noise"), hand.made(OTHER)):
            writer.add(hand.as_columns(rows))
    loaded = load([folder], over)
    assert loaded.repeated == 6
    return {section.name: section for section in sections(loaded, {}) if section.cells}


def of_table(text: str) -> Cells:
    """Cells of aligned text, up to the first note."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [line for line in lines if len(line) == len(lines[0])]


def test_the_table_of_an_attack(rows: list[Row], over: Over) -> None:
    table = pa.table(hand.as_columns(rows), schema=SCHEMA)
    text = format_table(summarise(table, interval_over=over), over)
    header, *lines = of_table(text)
    assert len(lines) == 2 * len(hand.EPSILONS)
    for place, epsilon in enumerate(hand.EPSILONS):
        its = at(rows, epsilon=epsilon)
        check(header, lines[2 * place], ATTACK, its, over)
        check(header, lines[2 * place + 1], WORST, hand.worst(its), over)
    assert policy(over) in text
    assert "2 rows were there more than once, and are counted once" in text


def test_of_one_seed_nothing_is_said_of_seeds(rows: list[Row], over: Over) -> None:
    its = at(rows, seed=1, epsilon=0.1)
    table = pa.table({name: [row[name] for row in its] for name in its[0]}, schema=SCHEMA)
    header, line = of_table(format_table(summarise(table, interval_over=over), over))
    few = {name: each for name, each in ATTACK.items() if name not in ("utterances", "± seeds")}
    check(header, line, few, its, over)


def test_the_tables_of_a_report(page: Any, over: Over) -> None:
    checked = set()

    def table(name: str, first: Sequence[str], oracles: Any, chosen: Sequence[Any]) -> None:
        header, *lines = page[name].cells
        assert len(lines) == len(chosen)
        for line, its in zip(lines, chosen, strict=True):
            own = {first[0]: first[1]} if first else {}
            check(header, line, {**oracles, **own}, its, over)
        checked.add(name)

    def each(*attacks: str) -> Iterator[list[Row]]:
        for attack in attacks:
            for epsilon in hand.EPSILONS[::-1]:  # the strongest first
                yield at(hand.made(attack=attack), epsilon=epsilon)

    table("clean", (), CLEAN, [hand.made(OTHER), hand.made()][::-1])
    checked |= {"answer", "robust_accuracy", "class_flow_1", "attack_pairs"}  # in test_answer.py
    header, *lines = page["robustness"].cells
    for place, its in enumerate(each("noise", "pgd")):
        check(header, lines[2 * place], ROBUSTNESS, its, over)
        check(header, lines[2 * place + 1], WORST_LINE, hand.worst(its), over)
    checked.add("robustness")
    for column, name in (("gender", "gender"), ("label", "class"), ("speaker", "speaker")):
        last = [at(hand.made(attack=attack), epsilon=0.1) for attack in ("noise", "pgd")]
        chosen = [
            at(its, **{column: value})
            for its in last
            for value in sorted({row[column] for row in its})
        ]
        told = (name, lambda its, column=column: its[0][column])
        table(f"by_{name}", told, PARTS, chosen)
    table("queries", (), QUERIES, list(each("noise", "pgd")))
    table("speed", (), SPEED, [hand.made(attack=attack) for attack in ("noise", "pgd")])
    table(
        "transfer",
        (),
        TRANSFER,
        [at(hand.made(OTHER), epsilon=epsilon) for epsilon in hand.EPSILONS],
    )
    assert checked == set(page), "every table has an oracle"
    for name in checked - {"queries", "speed", "class_flow_1"}:
        assert policy(over) in page[name].text


def test_two_runs_side_by_side(over: Over, tmp_path: Path) -> None:
    """Pairs of an utterance, of all seeds, are drawn together."""
    first, second = hand.made(), [{**row, "victim": "x", "threat": "x"} for row in hand.made(OTHER)]
    for name, rows in (("a", first), ("b", second)):
        with RowWriter(tmp_path / name) as writer:
            writer.add(hand.as_columns(rows))
    loaded = [load([tmp_path / name], over) for name in ("a", "b")]
    section = comparison(*loaded, "a", "b")
    header, *lines = section.cells
    kinds = {
        "accuracy before": hand.right_before,
        "robust accuracy": hand.right_after,
        "fooled": hand.changed,
    }
    told = ["corpus", "attack", "ε", "pairs", "utterances"]
    for what in kinds:
        told += [f"{what} a", f"{what} b", f"difference in {what}"]
    assert header == told
    for line, epsilon in zip(lines, hand.EPSILONS, strict=True):
        sides = [at(rows, epsilon=epsilon) for rows in (first, second)]
        assert line[:5] == ["Made up", "pgd", f"{epsilon:g} L∞", "24", "8"]
        for place, kind in enumerate(kinds.values()):
            a, b = (hand.share(side, kind) for side in sides)
            cells = line[5 + 3 * place : 8 + 3 * place]
            assert cells[:2] == [percent(a), percent(b)]
            value, low, high = re.fullmatch(r"(\S+)% \((\S+)% to (\S+)%\)", cells[2]).groups()  # type: ignore[union-attr]
            assert float(value) / 100 == pytest.approx(b - a, abs=6e-4)
            assert float(low) <= float(value) <= float(high)
            pairs = [{**x, "change": kind(y) - kind(x)} for x, y in zip(*sides, strict=True)]
            plain = hand.interval(
                pairs, lambda its: hand.share(its, lambda row: row["change"]), over
            )
            if plain[1] - plain[0] > 0.01:
                found = (float(low) / 100, float(high) / 100)
                assert found == pytest.approx(plain, abs=0.12)
            else:
                assert float(high) - float(low) > 5
    assert policy(over) in section.text


def lines_of(rows: Sequence[Row], names: dict[str, Sequence[str]]) -> tuple[Line, ...]:
    """Attacks of an evaluation, each on some utterances."""
    examples = ((Utterance("u0", Path("u0.wav"), "joy", "s0", "female"), Path("u0.npy")),)
    made = []
    for attack, utterances in names.items():
        its = [row for row in rows if row["utterance"] in utterances]
        table = pa.table({name: [row[name] for row in its] for name in its[0]}, schema=SCHEMA)
        made.append(Line(attack, "steps 3", outcomes_of(table), 1.5, 2.5, examples))
    return tuple(made)


def evaluated(rows: Sequence[Row], names: dict[str, Sequence[str]], over: Over) -> Any:
    lines = lines_of(rows, names)
    return SimpleNamespace(
        table=Table(title="T", snr=(10.0, 40.0)),
        corpus=SimpleNamespace(name="made", title="Made up"),
        lines=lines,
        best=list(lines),
        interval_over=over,
        victim=Path("runs/x"),
        protocol="clean",
    )


def test_the_tables_of_an_evaluation(rows: list[Row], over: Over) -> None:
    """Attacks that were limited to other utterances stand in a table of their own, below the
    accuracy of the same utterances before any attack."""
    its = at(rows, seed=1, epsilon=0.1)
    everyone = [row["utterance"] for row in its]
    few = everyone[:4]
    evaluation = evaluated(its, {"FGSM": everyone, "JSMA": few, "BIM": everyone}, over)
    tables = strongest(evaluation)
    assert [[line[0] for line in cells[1:]] for cells in tables] == [
        ["original", "FGSM", "BIM"],
        ["original", "JSMA"],
    ]
    papers = [name for name in tables[0][0] if name.startswith("paper")]
    assert papers == ["paper: accuracy", "paper: |Δ|", "paper: seconds"]
    for cells, utterances in zip(tables, (everyone, few), strict=True):
        chosen = [row for row in its if row["utterance"] in utterances]
        for line in cells[1:]:
            kind = hand.right_before if line[0] == "original" else hand.right_after
            assert line[2] == str(len(utterances))
            Interval(lambda some, kind=kind: hand.share(some, kind), kind).check(
                line[3], chosen, over
            )
            for cell, gender in zip(line[4:6], ("female", "male"), strict=True):
                part = at(chosen, gender=gender)
                assert cell == (percent(hand.share(part, kind)) if part else "")
            if line[0] != "original":
                assert line[7] == f"{mean([row['mean_abs'] for row in chosen]):.3g}"
                assert line[11:13] == ["1.5", "2.5"]
    # snr_power is 15 dB of all rows: what was found counts at 10 dB, and not at 40.
    for cells, utterances in zip(at_snr(evaluation), (everyone, few), strict=True):
        chosen = [row for row in its if row["utterance"] in utterances]
        left = hand.share(chosen, lambda row: hand.right_before(row) and hand.right_after(row))
        for line in cells[1:]:
            before = percent(hand.share(chosen, hand.right_before))
            assert line[1:] == [str(len(utterances)), percent(left), before]
    # Numbers for other programs are fractions, all of them.
    header, line, *_ = settings_csv([SimpleNamespace(**vars(evaluation))]).splitlines()
    values = dict(zip(header.split(","), line.split(","), strict=False))
    assert float(values["accuracy_all"]) == pytest.approx(hand.share(its, hand.right_after))


def test_victims_before_any_attack(rows: list[Row]) -> None:
    """Two runs of one kind, as seeds of training: each by itself, and their mean and deviation."""
    its = at(rows, seed=0, epsilon=0.1)
    labels = ("anger", "fear", "joy", "sad")

    def victim(name: str, column: str) -> Any:
        truth, predicted = (
            np.array([labels.index(row[each]) if row[each] else -1 for row in its])
            for each in ("label", column)
        )
        told = (np.array([row[each] for row in its]) for each in ("speaker", "source", "gender"))
        return SimpleNamespace(
            victim=Path(name),
            corpus=SimpleNamespace(name="made"),
            protocol="clean",
            kind="emo18",
            clean=Clean(truth, predicted, *told, len(labels)),
        )

    columns = ("clean_prediction", "prediction")
    header, *lines = victims([victim(column, column) for column in columns])
    assert header == [
        *("run", "corpus", "protocol", "utterances", "speakers"),
        *("accuracy", "accuracy, female", "accuracy, male"),
        *("UAR", "UAR, female", "UAR, male"),
        *("macro F1", "macro F1, female", "macro F1, male"),
    ]
    figures = []
    for column in columns:
        parts = [its, at(its, gender="female"), at(its, gender="male")]
        figures.append(
            [
                *(hand.share(part, lambda row: row[column] == row["label"]) for part in parts),  # noqa: B023
                *(hand.recall_mean(part, column) for part in parts),
                *(hand.f1_mean(part, column) for part in parts),
            ]
        )
    for line, column, values in zip(lines, columns, figures, strict=False):
        assert line == [column, "made", "clean", "8", "4", *map(percent, values)]
    both_ = [
        f"{(a + b) / 2:.1%} ± {abs(a - b) / 2**0.5:.1%}" for a, b in zip(*figures, strict=True)
    ]
    assert lines[2] == ["mean of 2 seeds", "made", "clean", "", "", *both_]


def test_whether_groups_differ(rows: list[Row]) -> None:
    """Accuracy lost, female less male; speakers are drawn, whatever other intervals are over."""
    its = at(rows, seed=1, epsilon=0.1)
    evaluation = evaluated(its, {"FGSM": [row["utterance"] for row in its]}, "utterance")
    evaluation.title = "made"
    _, text, table = genders([evaluation])
    assert policy("speaker") in text
    (line,) = [each.split(" | ") for each in table.splitlines()[2:]]

    def lost(part: Sequence[Row]) -> float:
        return hand.share(part, hand.right_before) - hand.share(part, hand.right_after)

    parts = [at(its, gender=gender) for gender in ("female", "male")]
    value = lost(parts[0]) - lost(parts[1])
    assert line[2] == f"{value:+.1%}"
    low, high = (float(each.rstrip("%")) / 100 for each in line[3].split(" to "))
    assert low < value < high
    assert line[4] == "2, 2"
    assert line[5].startswith("differ" if low > 0 or high < 0 else "no difference shown")


def test_the_table_of_transfer(
    rows: list[Row], over: Over, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one attack on a threat model, heard by itself and by another victim."""
    labels = ["anger", "fear", "joy", "sad"]

    def codes(its: Sequence[Row], column: str) -> np.ndarray:
        return np.array([labels.index(row[column]) if row[column] else -1 for row in its])

    heard = {name: at(hand.made(name), seed=0, epsilon=0.1) for name in ("emo18 runs/x", OTHER)}
    own = heard["emo18 runs/x"]
    table = pa.table({name: [row[name] for row in own] for name in own[0]}, schema=SCHEMA)
    run: Any = SimpleNamespace(
        rows=lambda: table,
        utterances=[
            Utterance(row["utterance"], Path("x"), row["label"], row["speaker"], row["gender"])
            for row in own
        ],
        config=SimpleNamespace(victim=Path("runs/x"), split="test"),
        corpus=SimpleNamespace(title="Made up"),
        facts={"notes": ["made up"]},
    )
    monkeypatch.setattr(experiment, "_read", lambda run, utterance: np.zeros(1))
    monkeypatch.setattr(experiment, "predict", lambda victim, x: victim)
    victims_: Any = {name: codes(its, "prediction") for name, its in heard.items()}
    clean = {name: codes(its, "clean_prediction") for name, its in heard.items()}
    line = experiment._line("PGD", run, clean, victims_, over)
    text = format_transfer(TransferTable(title="T"), [line], over)
    header, cells = line_cells([line])
    succeeded = [row for row in own if row["success"]]
    oracles: dict[str, Oracle | Interval] = {
        "threat model": lambda its: "runs/x",
        "attack": lambda its: "PGD",
        "part": lambda its: "test",
        "n": count("utterance"),
        "SNR dB": lambda its: f"{mean([row['snr_peak'] for row in succeeded]):.2f}",
        "changed": lambda its: f"{mean([row['sparsity'] for row in succeeded]):.2%}",
        "STOI": dash,
        "s": lambda its: f"{mean([row['seconds'] for row in its]):.3g}",
        "ASR x": Interval(fooled, hand.changed),
    }
    place = header.index("ASR y")
    Interval(fooled, hand.changed).check(cells[place], heard[OTHER], over)
    del header[place], cells[place]
    check(header, cells, oracles, own, over)
    assert policy(over) in text


@pytest.mark.parametrize("seeds", [(0,), hand.SEEDS])
def test_the_same_rows_have_the_same_interval_everywhere(
    seeds: tuple[int, ...], over: Over, tmp_path: Path
) -> None:
    """In attack, report and evaluate, where 62.5 to 100 and 56.2 to 93.9 were once of one set."""
    its = at(hand.made(seeds=seeds), epsilon=0.1)
    table = pa.table({name: [row[name] for row in its] for name in its[0]}, schema=SCHEMA)
    with RowWriter(tmp_path) as writer:
        writer.add({name: [row[name] for row in its] for name in its[0]})
    (summary,) = summarise(table, interval_over=over)
    (setting,) = load([tmp_path], over).settings
    assert setting.figures["accuracy"] == (summary.clean_accuracy, summary.robust_accuracy)
    assert setting.figures["UAR"] == (summary.clean_uar, summary.robust_uar)
    assert setting.robust_accuracy == summary.robust_accuracy
    if len(seeds) == 1:
        assert outcomes_line(table).estimate(over) == summary.robust_accuracy
    else:
        assert summary.worst == setting.outcomes.worst


def outcomes_line(table: pa.Table) -> Line:
    examples = ((Utterance("u0", Path("u0.wav"), "joy", "s0", "female"), Path("u0.npy")),)
    return Line("pgd", "", outcomes_of(table), 1.0, 1.0, examples)


def test_a_target_has_a_figure_of_its_own(rows: list[Row], tmp_path: Path) -> None:
    targeted = [{**row, "targeted": True, "label_source": "target"} for row in rows]
    targeted = [
        {**row, "attacked_label": "joy", "success": row["prediction"] == "joy"} for row in targeted
    ]
    with RowWriter(tmp_path) as writer:
        writer.add(hand.as_columns(targeted))
    page = {section.name: section for section in sections(load([tmp_path]), {})}
    header, line, worst, *_ = page["robustness"].cells
    its = at(targeted, epsilon=0.1)  # the strongest first
    value = percent(hand.share(its, lambda row: row["success"]))
    assert dict(zip(header, line, strict=True))["target reached"] == value
    some = hand.per_utterance(its, lambda row: row["success"]).values()
    told = percent(mean([float(each > 0) for each in some]))
    assert dict(zip(header, worst, strict=True))["target reached"] == told
    assert "success" not in header


def test_uneven_seeds_do_not_weigh_more(rows: list[Row]) -> None:
    """A second seed on half of the utterances: every utterance still counts as one."""
    its = [
        row
        for row in at(rows, epsilon=0.1)
        if row["seed"] == 0 or (row["seed"] == 1 and row["utterance"] < "u4")
    ]
    table = pa.table({name: [row[name] for row in its] for name in its[0]}, schema=SCHEMA)
    (line,) = summarise(table)
    assert line.robust_accuracy.value == pytest.approx(hand.share(its, hand.right_after))
    assert line.robust_accuracy.value != pytest.approx(
        np.mean([hand.right_after(row) for row in its])
    )
    assert line.fooling_rate == pytest.approx(fooled(its))
    assert line.success_on_correct == pytest.approx(hand.on_correct(its))
