"""Every attack by name, and the papers' settings in configs/attacks."""

from pathlib import Path

import pytest
import yaml

from jaxser.attacks import ATTACKS, from_parameters, parameters
from jaxser.driver.named_attack import named_attack
from jaxser.runtime.errors import UsageError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "attacks").glob("*.yaml"))


# A generator is no text: it has tests of its own.
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "staanet"])
def test_every_attack_is_made_by_name_and_gives_its_parameters_back(name: str) -> None:
    attack = from_parameters(name.upper(), {})
    assert attack == ATTACKS[name]()
    assert from_parameters(name, parameters(attack)) == attack
    assert hash(attack) == hash(ATTACKS[name]())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_papers_settings_are_valid(path: Path) -> None:
    name, values = named_attack(str(path))
    attack = from_parameters(name, values)
    assert attack.name == name
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["paper"]


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: pgd\nparameter: {}\n")
    with pytest.raises(UsageError, match=r"unknown key 'parameter'.*parameters"):
        named_attack(str(path))
    path.write_text("parameters: {}\n")
    with pytest.raises(UsageError, match="must have a name"):
        named_attack(str(path))
    with pytest.raises(UsageError, match="no attack 'pdg'; did you mean 'pgd'"):
        from_parameters("pdg", {})


def test_attacks_without_a_target_say_so_in_the_user_s_words() -> None:
    """Whoever gives --target has never seen the hyper-parameter that it becomes."""
    refused = []
    for name in set(ATTACKS) - {"staanet"}:  # whose generator has its own targets
        try:
            assert from_parameters(name, {"targeted": True}).targeted
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) == 3  # deepfool, sparsefool, fab
    for sentence in refused:
        assert "--target" in sentence
        assert "targeted=False" not in sentence
