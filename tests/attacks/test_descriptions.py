"""``jaxser attacks list | show``: what is told of every attack."""

import dataclasses

import pytest

from jaxser.__main__ import main as jaxser
from jaxser.attacks import ATTACKS
from jaxser.attacks.__main__ import main
from jaxser.attacks.descriptions import described


@pytest.mark.parametrize("name", ATTACKS)
def test_every_parameter_has_a_meaning_and_every_attack_a_source(name: str) -> None:
    found = described(name)
    assert [each.name for each in found.parameters] == [
        field.name for field in dataclasses.fields(ATTACKS[name])
    ]
    for each in found.parameters:
        assert each.meaning.endswith("."), each.name
    assert any(word.strip("(),").isdigit() or "arXiv" in word for word in found.paper.split())
    assert found.title.endswith(".")
    assert found.norms


# As the table of docs/attacks.md has them.
NORMS = {
    "fgsm": ("L∞",),
    "pgd": ("L∞", "L2", "L1"),
    "apgd": ("L∞", "L2", "L1"),
    "autoattack": ("L∞", "L2"),
    "deepfool": ("L2", "L∞"),
    "fab": ("L∞", "L2", "L1"),
    "jsma": ("L0",),
    "noise": ("L∞", "L2"),
    "square": ("L∞", "L2"),
    "hopskipjump": ("L2", "L∞"),
    "staanet": ("L∞",),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_norms_are_those_that_it_can_be_set_to(name: str) -> None:
    assert described(name).norms == NORMS[name]


def test_papers_of_some() -> None:
    assert described("PGD").paper == "Madry et al., ICLR 2018, section 2.1"
    assert described("carlinil0").paper == "Carlini & Wagner, S&P 2017, section VI-B"
    assert described("bim").paper == "Kurakin et al., ICLR Workshop 2017"
    assert described("autoattack").paper.endswith("with the settings of the authors' code")


def test_show_tells_parameters_of_the_class_and_of_those_it_is_made_from(
    capsys, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "96")
    assert main(["show", "pgd"]) == 0
    out = capsys.readouterr().out
    assert "Madry et al., ICLR 2018" in out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("  ")}
    assert lines["steps"][:3] == ["steps", "20", "iterations."]
    assert lines["bounds"][1] == "-1,1"
    assert lines["step_size"][1] == "none"
    assert lines["random_start"][1] == "true"
    assert max(map(len, out.splitlines())) <= 96
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_list_names_every_attack(capsys) -> None:
    assert jaxser(["attacks", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(ATTACKS)
    assert "L0 *" in next(line for line in lines if line.startswith("jsma"))
    for name in ("square", "fgsm", "staanet"):
        assert "*" not in next(line for line in lines if line.startswith(name))


def test_mistakes_are_a_sentence(capsys) -> None:
    assert main(["show", "pdg"]) == 2
    assert capsys.readouterr().err == "error: there is no attack 'pdg'; did you mean 'pgd'?\n"
    assert main([]) == 2
