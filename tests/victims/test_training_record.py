"""What a run folder tells of its training, and what it says of a file that is none of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from jaxser.config import TrainConfig, from_mapping
from jaxser.results.training_facts import TrainingFacts
from jaxser.runtime.errors import InputError
from jaxser.victims.training_record import COST_FILE, defence_text, training_facts, write_cost

PGD = {"attack": "pgd", "epsilon": 0.002}
FACTS = TrainingFacts(
    defence="trained with noise of σ 0.01",
    seconds=12.5,
    compile_seconds=3.0,
    device="a chip",
    queries=100,
    gradients=90,
)


def config(adversarial: dict[str, Any], noise: float = 0.0, **model: Any) -> TrainConfig:
    training = {"adversarial": adversarial, "noise": noise}
    return from_mapping(TrainConfig, {"training": training, **model}, "made")


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (config({}), None),
        (config({**PGD, "loss": "trades"}), "trained against pgd, ε 0.002 (trades)"),
        (config({**PGD, "epsilon": [0.001, 0.002]}), "trained against pgd, ε 0.001 to 0.002"),
        (config({**PGD, "epsilon": [0.002, 0.002]}), "trained against pgd, ε 0.002"),
        (
            config({"attack": "fgsm", "epsilon": 0.1, "replays": 4, "awp": 0.005}),
            "trained against fgsm, ε 0.1 (free, 4 replays, awp 0.005)",
        ),
        (config({**PGD, "share": 1}), "trained against pgd, ε 0.002 (all rows)"),
        (config({**PGD, "share": 0.25}), "trained against pgd, ε 0.002 (25% of the rows)"),
        (config({**PGD, "share": 0.5}), "trained against pgd, ε 0.002"),
        (config({}, noise=0.01), "trained with noise of σ 0.01"),
        (
            config({**PGD, "random_start": True}, noise=0.01),
            "trained against pgd, ε 0.002 (random start) and with noise of σ 0.01",
        ),
        # ε is in the units of what is attacked.
        (config(PGD, model={"name": "alexnet"}), "trained against pgd, ε 0.002 of the image"),
        (config(PGD, model={"name": "cnn_lstm"}), "trained against pgd, ε 0.002 of the features"),
        (
            config({**PGD, "domain": "waveform"}, model={"name": "cnn_lstm"}),
            "trained against pgd, ε 0.002",
        ),
    ],
)
def test_a_defence_in_words(of: TrainConfig, told: str | None) -> None:
    assert defence_text(of) == told


def test_what_was_written_is_read(tmp_path: Path) -> None:
    noisy = config({}, noise=0.01)
    unknown = training_facts(tmp_path, noisy)
    assert (unknown.defence, unknown.queries, unknown.device) == (FACTS.defence, None, None)
    write_cost(tmp_path, FACTS)
    assert training_facts(tmp_path, noisy) == FACTS
    assert TrainingFacts.of(FACTS.columns()) == FACTS
    # As a run that an older version began: passes are known, seconds are not.
    write_cost(tmp_path, TrainingFacts(queries=100, gradients=90))
    found = training_facts(tmp_path, noisy)
    assert (found.queries, found.gradients, found.device) == (100, 90, None)
    assert found.seconds != found.seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": -1.0},
        {"seconds": "12"},
        {"seconds": float("inf")},
        {"queries": 1.5},
        {"queries": True},
        {"device": 3},
        {"more": 1},
    ],
)
def test_another_file_is_one_sentence(changes: dict[str, Any], tmp_path: Path) -> None:
    write_cost(tmp_path, FACTS)
    values = json.loads((tmp_path / COST_FILE).read_text())
    (tmp_path / COST_FILE).write_text(json.dumps(values | changes))
    with pytest.raises(InputError, match=r"cost\.json is not what training wrote there; restore"):
        training_facts(tmp_path, config({}))
