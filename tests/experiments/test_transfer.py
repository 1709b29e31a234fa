"""Tables of threat models and victims: what they may say, and a sentence for each mistake."""

from pathlib import Path

import pytest
import yaml
from untrained_run import make_tiny_run

from jaxser import transfer
from jaxser.attacks import ATTACKS, from_parameters
from jaxser.config import load_yaml
from jaxser.papers.table import settings
from jaxser.papers.transfer import load_transfer_table
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


@pytest.mark.parametrize("path", sorted(TABLES.glob("staa_net_*.yaml")), ids=lambda p: p.stem)
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
        ({"attacks": TWO_STAA}, ["--generator", "first=a"], "second needs a trained generator"),
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
    table = table_file(tmp_path / "table.yaml", **changes)
    argv = [str(table), "--threat", str(threat), "--victim", str(threat), *more]
    assert report_errors(lambda: transfer.main(argv))
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
