"""Tables of threat models and victims: what they may say, and a sentence for each mistake."""

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser import transfer
from jaxser.attacks import ATTACKS, from_parameters
from jaxser.config import load_yaml
from jaxser.experiments import sparsity_matching
from jaxser.papers.table import settings
from jaxser.papers.transfer import load_transfer_table
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import report_errors

STAA = [{"attack": "staanet"}]
TWO_STAA = [{"name": name, "attack": "staanet"} for name in ("first", "second")]
TABLES = Path(__file__).resolve().parents[2] / "configs" / "tables"


@pytest.fixture(scope="module")
def threat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("transfer"))


def table_file(path: Path, **changes: object) -> Path:
    content = {
        "title": "A table",
        "attacks": [{"attack": "fgsm", "epsilon": [0.2]}],
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


ATTACKED = ("staa_net_2s", "staa_net_4s", "staa_net_table4", "staa_net_table5", "staa_net_table6")


@pytest.mark.parametrize(
    "path", [TABLES / f"{name}.yaml" for name in ATTACKED], ids=lambda p: p.stem
)
def test_the_tables_are_valid(path: Path) -> None:
    table = load_transfer_table(path)
    titles = [entry.title for entry in table.attacks]
    for attacks in table.published.values():
        assert set(attacks) <= set(titles)
    for entry in table.attacks:
        name, parameters = entry.attack, {}
        if entry.attack.endswith(".yaml"):
            content = load_yaml(TABLES.parents[1] / entry.attack)
            name, parameters = content["name"], content.get("parameters", {})
        assert name in ATTACKS
        if name != "staanet":
            (setting,) = settings(entry)
            from_parameters(name, {**parameters, **entry.parameters, **setting})


@pytest.mark.parametrize(
    ("changes", "more", "sentence"),
    [
        ({"attacks": []}, [], "must list attacks"),
        ({"attacks": [{"attack": "bim", "grid": {"steps": [1, 2]}}]}, [], "must have one setting"),
        ({"attacks": [{"attack": "fgsm", "epsilon": [0.1, 0.2]}]}, [], "must have one setting"),
        ({"attacks": [{"attack": "staanet"}]}, [], "give --generator RUN"),
        ({"attacks": STAA}, ["--generator", "a", "b"], "2 generators for 1 threat models"),
        ({"attacks": STAA}, ["--generator", "line=a"], "is for no line of the table"),
        ({"attacks": TWO_STAA}, ["--generator", "a"], "'LINE=RUN' with one of: first, second"),
        ({"attacks": TWO_STAA}, [], "first, second need trained generators; give --generator LINE"),
        ({"attacks": TWO_STAA}, ["--generator", "first=none"], "first, second need trained gener"),
        ({"attacks": STAA}, ["--generator", "nowhere"], "nowhere"),
        ({}, ["--attacks", "pgd"], "no table has 'pgd'"),
        ({}, ["--match_sparsity", "0"], "is neither a share above 0 and up to 1"),
        ({"layout": "genders"}, [], "has the layout 'genders', and transfer makes tables of the l"),
        ({}, ["--generator", "x"], "no line that is made needs a generator; leave it out"),
        ({}, ["--match_sparsity", "fgms"], "nor a line that is made; did you mean 'fgsm'?"),
        ({}, ["--match_sparsity", "0.2"], "has no sparse PGD; leave out --match_sparsity"),
        ({}, ["--out", "table.yaml"], "is a file"),
        ({}, ["--victim", "nowhere"], "is not a run folder"),
    ],
)
def test_mistakes_are_one_sentence(
    threat: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    more: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    use_tiny_networks(monkeypatch)
    table = table_file(tmp_path / "table.yaml", **changes)
    argv = [str(table), "--threat", str(threat), "--victim", str(threat), *more]
    assert report_errors(lambda: transfer.main(argv))
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_lines_are_chosen_left_open_and_matched(
    threat: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_tiny_networks(monkeypatch)
    pgd = {"name": "PGD", "attack": "sparsepgd", "parameters": {"steps": 3}, "epsilon": [0.2]}
    fgsm = {"name": "FGSM", "attack": "fgsm", "epsilon": [0.2]}
    table = table_file(tmp_path / "table.yaml", attacks=[pgd, fgsm, *TWO_STAA])
    argv = [str(table), "--threat", str(threat), "--victim", str(threat), "--out", str(tmp_path)]
    argv += ["--attacks", "PGD", "second", "--match_sparsity", "0.3"]
    assert transfer.main(argv) == 0
    printed = capsys.readouterr().out
    assert f"note: left open: second on {threat} has no generator" in printed
    assert "note: PGD on" in printed
    assert "30.00% was asked for (2 utterances of the part val)" in printed
    assert "FGSM" not in printed
    assert "first" not in printed
    opened = [line.split() for line in printed.splitlines() if " second " in line and "–" in line]
    assert [line[2:] for line in opened] == [[part, *"––––––"] for part in ("val", "test")]
    lines = list(csv.DictReader((tmp_path / "transfer.csv").read_text().splitlines()))
    assert [(line["attack"], line["part"]) for line in lines] == [("PGD", "val"), ("PGD", "test")]
    assert float(lines[0]["sparsity"]) == pytest.approx(0.3, rel=0.02)
    # One count for all parts, whose rows lie apart.
    folders = list((threat / "attacks").glob("sparsepgd-*"))
    rows = [read_rows(folder).slice(0, 1).to_pylist()[0] for folder in folders]
    assert {row["split"] for row in rows} == {"val", "test"}
    assert len({row["parameters"] for row in rows}) == 1
    counts = {path.name for path in (threat / "attacks").glob("sparsepgd-*")}
    assert transfer.main(argv) == 0
    assert counts == {path.name for path in (threat / "attacks").glob("sparsepgd-*")}
    # As many as another line changes, which is all; that of a line without a generator is unknown.
    argv = [*argv[:5], "--split", "val", "--attacks", "PGD", "FGSM", "--match_sparsity", "FGSM"]
    assert transfer.main(argv) == 0
    assert "count 2,000 chosen: 100.00%" in capsys.readouterr().out
    argv = [*argv[:8], "PGD", "first", "--match_sparsity", "first"]
    assert report_errors(lambda: transfer.main(argv)) == 1
    assert "no share of changed samples to match: the line that it is of" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.01, 0.05, 0.125, 0.6, 1.0])
@pytest.mark.parametrize("steps", [1, 20])
def test_a_count_is_found_whose_union_over_the_steps_is_the_share(
    share: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions drawn anew in every step: the union is 1 - (1 - count / size)^steps of them."""
    size, tried = 96_000, []

    @dataclasses.dataclass(frozen=True)
    class Run:
        count: int
        speech: SimpleNamespace
        attacked: np.ndarray
        utterances: tuple[int, ...] = (0, 1, 2)

    def run_of(count: int) -> Run:
        victim = SimpleNamespace(input_shape=(size,))
        speech = SimpleNamespace(victim=victim, take=lambda rows: None)
        return Run(count, speech, np.zeros(3, int))

    def sparsity(run: Run) -> float:
        tried.append(run.count)
        return 1 - (1 - run.count / size) ** steps

    monkeypatch.setattr(sparsity_matching, "_sparsity", sparsity)
    matched = sparsity_matching.match_sparsity(run_of, share, "val")  # type: ignore[arg-type]
    assert matched.sparsity == pytest.approx(share, rel=0.02)
    assert matched.count == pytest.approx(size * (1 - (1 - share) ** (1 / steps)), rel=0.03, abs=1)
    assert len(tried) <= 6
