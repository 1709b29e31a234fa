"""The runs of a table of defences, as the command asks for them."""

import dataclasses
from pathlib import Path

import pytest

from jaxser.config import AdversarialConfig
from jaxser.config.evaluate import parse_evaluate
from jaxser.experiments.hardened import HardenedRun, runs_of
from jaxser.papers.defence import load_defence_table
from jaxser.training.defence import check_defence

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TABLE = CONFIGS / "tables" / "benchmark_table2a.yaml"

# What --set may say of a training against an attack, by field; the table says the others.
SAID = {
    "share": "0.75",
    "warmup_epochs": "2",
    "loss": "mart",
    "beta": "3",
    "awp": "0.01",
    "batch_norm": "training",
    "random_start": "true",
    "replays": "2",
    "watch_rows": "16",
    "on_overfitting": "stop",
}
BY_TABLE = {"attack", "params", "epsilon", "domain"}


def runs(*said: str) -> list[HardenedRun]:
    argv = [str(TABLE), "--corpus", "emodb=speech", "--attacks", "FGSM", "--set", *said]
    path = CONFIGS / "benchmark" / "alexnet_emodb.yaml"
    config, table = parse_evaluate(argv), load_defence_table(TABLE)
    return list(runs_of(table, config, path, Path("speech"), ["FGSM"]))


@pytest.mark.parametrize(
    "said",
    [
        "training.monitor=robust",
        *(
            f"training.adversarial.{field.name}={SAID[field.name]}"
            for field in dataclasses.fields(AdversarialConfig)
            if field.name not in BY_TABLE
        ),
    ],
)
def test_what_is_said_of_defences_is_not_of_the_undefended(said: str) -> None:
    more = ["training.adversarial.loss=mart"] if "beta" in said else []
    plain, hardened = runs(said, "training.epochs=2", *more)
    assert (plain.against, hardened.against) == (None, "FGSM")
    assert plain.config.training.epochs == hardened.config.training.epochs == 2
    for run in (plain, hardened):
        check_defence(run.config)
    key, _, value = said.partition("=")
    section = hardened.config.training.adversarial
    if key == "training.monitor":
        assert (plain.config.training.monitor, hardened.config.training.monitor) == ("last", value)
    else:
        assert str(getattr(section, key.rpartition(".")[2])).lower().removesuffix(".0") == value
    assert plain.config.training.adversarial == AdversarialConfig()
