"""Runs that train against an attack: what they leave, how they go on, and what is refused."""

import csv
import functools
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from event_files import shown
from short_and_long import short_and_long
from tiny_networks import Tiny, use_tiny_networks

from jaxser import load_victim, train
from jaxser.attacks import PGD
from jaxser.config import TrainConfig, from_mapping, load_yaml, parse_command, to_mapping
from jaxser.reporting.figures.training import robust_training_figure
from jaxser.runtime.errors import InputError, UsageError
from jaxser.training import cost
from jaxser.training.adversarial import _budgets
from jaxser.training.defence import budget_of, defence_of, domain_of
from jaxser.training.loop import say_unchosen
from jaxser.training.run import train_victim
from jaxser.training.watching import RobustWatch, collapsed
from jaxser.victims.run_folder import read_run


@pytest.fixture(autouse=True)
def tiny_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))
    use_tiny_networks(monkeypatch)


def tiny(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--corpus.name", "csv", "--corpus.root", str(root), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--training.epochs", "4", "--training.batch_size", "6"),
        *("--training.learning_rate", "0.05", "--training.schedule", "constant"),
        *("--training.adversarial.attack", "fgsm", "--training.adversarial.epsilon", "0.01"),
        *("--training.adversarial.watch_rows", "6", *more),
    ]


def config_of(root: Path, out: Path, *more: str) -> TrainConfig:
    return parse_command(TrainConfig, "p", "d", tiny(root, out, *more))


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


class Interrupted(Exception):
    """In the place of a kill, at the end of an epoch that is not saved yet."""


def test_a_run_that_was_interrupted_ends_as_one_in_a_piece(
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = ["--training.adversarial.epsilon", "0.002", "0.02", "--training.noise", "0.001"]
    more += ["--training.adversarial.random_start", "--training.adversarial.warmup_epochs", "2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main(tiny(tiny_corpus, whole, *more)) == 0
    printed = capsys.readouterr().out
    assert "robust " in next(line for line in printed.splitlines() if line.startswith("epoch 4/4"))
    results = json.loads((whole / "results.json").read_text())
    best = history(whole)[results["best_epoch"] - 1]
    assert results["watched"] == {name: float(best[name]) for name in results["watched"]}
    right, left = (float(best[f"val_{name}_accuracy"]) for name in ("watched", "robust"))
    assert f"{right:.1%} of the validation rows right, {left:.1%} under PGD" in printed

    # An hour passes in the second epoch, which is saved, and one in the third, which is not.
    real, later = time.monotonic, [0.0]
    monkeypatch.setattr(cost.time, "monotonic", lambda: real() + later[0])

    def kill(figures: Sequence[Mapping[str, float]]) -> None:
        later[0] += 3600 * (len(figures) > 1)
        if len(figures) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_victim(config_of(tiny_corpus, parts, *more), kill)
    # Three epochs had ended, of which two were saved.
    assert [path.name for path in (parts / "checkpoints" / "last").iterdir()] == ["10"]
    assert train_victim(config_of(tiny_corpus, parts, *more)).finished
    assert (parts / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    took = [json.loads((out / "cost.json").read_text()) for out in (whole, parts)]
    # Of 20 steps three of six rows by FGSM's one gradient, and all rows by the update.
    assert [(each["queries"], each["gradients"]) for each in took] == [(20 * 9, 20 * 9)] * 2
    assert 0 < took[0]["seconds"] < 3600 < took[1]["seconds"] < 7200
    assert "180 forward and 180 backward passes of an utterance" in printed
    assert (
        "\ntrained against fgsm, ε 0.002 to 0.02 (random start) and with noise of σ 0." in printed
    )
    # A run that is shown again keeps what its training took.
    before = (parts / "cost.json").read_bytes()
    assert train_victim(config_of(tiny_corpus, parts, *more)).facts.queries == 180
    assert (parts / "cost.json").read_bytes() == before
    ends = [jax.device_get(load_victim(out).variables) for out in (whole, parts)]
    jax.tree.map(np.testing.assert_array_equal, *ends)

    rows = history(whole)
    figures = ("watched_accuracy", "attack_accuracy", "robust_accuracy", "val_robust_uar")
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in figures)
    scalars = shown(whole)
    for name in ("train/robust_accuracy", "val/robust_accuracy", "val/robust_uar"):
        assert [step for step, _ in scalars[name]] == [int(row["step"]) for row in rows]
    robust = [float(row["val_robust_uar"]) for row in rows]
    kept = [path.name for path in (whole / "checkpoints" / "best_robust").iterdir()]
    assert kept == [rows[int(np.argmax(robust))]["step"]]
    assert (whole / "robustness.png").read_bytes()[:4] == b"\x89PNG"


def test_the_curve_of_a_training_has_what_was_watched() -> None:
    watched = {"watched_accuracy": 0.9, "robust_accuracy": 0.5, "val_robust_accuracy": 0.25}
    history = [{"epoch": epoch, **watched} for epoch in (1, 2, 3)]
    (axes,) = robust_training_figure(history, 2, "a title").axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn.pop("best epoch (2)") == [0, 1]
    assert drawn == {
        "training, clean": [0.9] * 3,
        "training, under PGD": [0.5] * 3,
        "validation, under PGD": [0.25] * 3,
    }


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    history = [{"epoch": epoch, "robust_accuracy": 0.5} for epoch in range(1, epochs + 1)]
    (axes,) = robust_training_figure(history, 1, "a title").axes
    least, most = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if least <= tick <= most]
    assert ticks
    assert ticks == [round(tick) for tick in ticks]


def scripted(monkeypatch: pytest.MonkeyPatch, robust: list[float], attack: list[float]) -> None:
    """What the watch is to find, epoch by epoch."""
    told = iter(zip(robust, attack, strict=True))

    def figures(self: RobustWatch, variables: Any) -> dict[str, float]:
        now, under_attack = next(told)
        return {
            "watched_accuracy": 1.0,
            "attack_accuracy": under_attack,
            "robust_accuracy": now,
            "val_robust_uar": now,
        }

    monkeypatch.setattr(RobustWatch, "figures", figures)


@pytest.mark.parametrize("what", short_and_long(["warn", "stop"], ["stop"]))
def test_catastrophic_overfitting_is_named(
    what: str,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scripted(monkeypatch, [0.3, 0.5, 0.01, 0.02], [0.4, 0.6, 0.95, 0.95])
    out = tmp_path / "run"
    more = ["--training.adversarial.on_overfitting", what, "--training.monitor", "robust"]
    with caplog.at_level(logging.WARNING):
        outcome = train_victim(config_of(tiny_corpus, out, *more))
    assert outcome.finished
    (warning,) = [r.getMessage() for r in caplog.records if "catastrophic" in r.getMessage()]
    assert "epoch 3: accuracy under the training attack is 95.0 %" in warning
    assert "fell from 50.0 % to 1.0 %" in warning
    assert len(history(out)) == (3 if what == "stop" else 4)
    # Epoch 2 is the most robust, and the best as that is monitored.
    for name in ("best", "best_robust"):
        assert [path.name for path in (out / "checkpoints" / name).iterdir()] == ["10"]
    assert outcome.results["best_epoch"] == 2


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(
    ("rate", "problem"),
    [("1e39", "parameters became infinite or NaN"), ("1e38", "the validation loss became nan")],
)
def test_what_the_last_update_of_an_epoch_spoils_is_not_kept(
    rate: str, problem: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    """The loss of that update is of the parameters before it, and was finite."""
    out = tmp_path / "run"
    more = ["--training.batch_size", "30", "--training.learning_rate", rate]
    with pytest.raises(InputError, match=rf"{problem} in epoch 1; .*there is no checkpoint yet"):
        train_victim(config_of(tiny_corpus, out, *more))
    assert not list(out.glob("checkpoints/*/*"))


def test_a_loss_beyond_all_measure_ends_the_run(tiny_corpus: Path, tmp_path: Path) -> None:
    """Though every number is finite."""
    problem = r"the mean training loss became \S+e\+\d+ in epoch 1; .*there is no checkpoint yet"
    with pytest.raises(InputError, match=problem):
        train_victim(config_of(tiny_corpus, tmp_path / "run", "--training.learning_rate", "1e6"))


def test_warm_up_may_be_longer_than_steps_are_counted(tiny_corpus: Path, tmp_path: Path) -> None:
    more = ["--training.adversarial.warmup_epochs", "1e6"]
    config = config_of(tiny_corpus, tmp_path, *more)
    defence = defence_of(config, Tiny(3), 10_000)
    assert defence is not None
    budget = jax.jit(functools.partial(_budgets, defence), static_argnums=3)
    epsilon = budget(jax.random.key(0), jnp.int32(10), budget_of(config), 2)
    np.testing.assert_allclose(epsilon, 0.01 * 10 / 1e10, rtol=1e-6)


def test_what_counts_as_a_collapse() -> None:
    def after(before: float, now: float, attack: float) -> bool:
        epochs = [{"robust_accuracy": before}, {"robust_accuracy": now, "attack_accuracy": attack}]
        return collapsed(epochs)

    assert after(0.4, 0.01, 0.9)
    assert after(0.4, 0.2, 0.4)
    assert not after(0.4, 0.3, 0.9)  # less robust than the training attack says, but no collapse
    assert not after(0.4, 0.01, 0.1)  # neither is withstood
    assert not after(0.0, 0.0, 0.9)  # there was nothing to lose
    assert not collapsed([{"robust_accuracy": 0.01, "attack_accuracy": 0.9}])
    # Over several epochs, of which the one that ends it is told, and once.
    robust, attack = [0.5, 0.35, 0.3, 0.2, 0.1, 0.0], [0.5, 0.6, 0.7, 0.8, 0.9, 0.9]
    epochs = [
        {"robust_accuracy": r, "attack_accuracy": a} for r, a in zip(robust, attack, strict=True)
    ]
    assert [collapsed(epochs[:end]) for end in range(1, 7)] == [*[False] * 3, True, False, False]
    # One that recovered may fall again.
    epochs += [
        {"robust_accuracy": 0.4, "attack_accuracy": 0.5},
        {"robust_accuracy": 0.1, "attack_accuracy": 0.9},
    ]
    assert [collapsed(epochs[:end]) for end in (7, 8)] == [False, True]
    assert not collapsed([{"val_asr": 0.4}, {"val_asr": 0.1}])
    assert not collapsed([{"robust_accuracy": 0.4}, {"robust_accuracy": 0.0}])


def test_the_attack_of_a_file_is_written_down(tiny_corpus: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "attack.yaml", tmp_path / "run"
    file.write_text("name: PGD\nparameters: {steps: 2, step_size: 0.003, random_start: false}\n")
    more = ["--training.epochs", "1", "--training.adversarial.attack", str(file)]
    config = config_of(tiny_corpus, out, *more)
    assert train_victim(config).finished
    adversarial = yaml.safe_load((out / "config.yaml").read_text())["training"]["adversarial"]
    assert adversarial["attack"] == "pgd"
    assert set(adversarial["params"]) == {"steps=2", "step_size=0.003", "random_start=False"}
    defence = defence_of(read_run(out)[0], Tiny(3), 5)
    assert defence is not None
    assert defence.attack == PGD(steps=2, step_size=0.003, random_start=False)
    # The same file is the same run; with other numbers it is another.
    assert train_victim(config).finished
    file.write_text("name: pgd\nparameters: {steps: 3}\n")
    with pytest.raises(UsageError, match=r"holds a run with training.adversarial.params"):
        train_victim(config)
    # Nor is it a generator's folder, whatever its threat model.
    argv = tiny(tiny_corpus, out, "--threat", str(out), "--training.monitor", "asr")
    with pytest.raises(UsageError, match=r"training\.adversarial is for victims; leave it out"):
        train.main(argv)
    plain = [*tiny(tiny_corpus, out)[:12], "--threat", str(out), "--training.monitor", "asr"]
    with pytest.raises(UsageError, match="holds the run of a victim; give another --out"):
        train.main(plain)


def test_sections_of_before_still_read(tmp_path: Path) -> None:
    old = to_mapping(TrainConfig())
    assert old["training"].pop("adversarial")
    assert old["training"].pop("noise") == 0
    assert from_mapping(TrainConfig, old, "old") == TrainConfig()
    nothing = from_mapping(TrainConfig, {"training": {"adversarial": None}}, "nothing")
    assert nothing == TrainConfig()
    file = tmp_path / "one.yaml"
    file.write_text("training: {adversarial: {attack: pgd, epsilon: 0.002}}\n")
    config = from_mapping(TrainConfig, load_yaml(file), "one")
    assert config.training.adversarial.epsilon == (0.002,)
    np.testing.assert_array_equal(budget_of(config), np.float32([0.002, 0.002]))


def test_defences_are_what_the_config_says(tiny_corpus: Path, tmp_path: Path) -> None:
    def defence(*more: str) -> Any:
        return defence_of(config_of(tiny_corpus, tmp_path, *more), Tiny(3), 10)

    of = "--training.adversarial."
    plain = defence()
    assert (plain.share, plain.attack.bounds, plain.attack.name) == (0.5, (-1.0, 1.0), "fgsm")
    fast = defence(of + "random_start", of + "warmup_epochs", "1.5")
    assert fast.attack == PGD(steps=1, relative_step_size=1.25, random_start=True)
    assert fast.warmup_steps == 15
    trades = defence(of + "loss", "trades", of + "attack", "PGD", of + "params", "norm=l2")
    assert (trades.share, trades.beta, trades.attack.norm) == (1.0, 6.0, "l2")
    assert defence(of + "loss", "mart").beta == 5.0
    wide = defence(of + "params", "bounds=-2,2", of + "share", "1")
    assert (wide.attack.bounds, wide.share) == ((-2.0, 2.0), 1.0)
    assert domain_of(config_of(tiny_corpus, tmp_path), Tiny(3)) == "waveform"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["attack", "carlinil2"], r"carlinil2 is no attack to train against.*fgsm, bim"),
        (["attack", "square"], "square is no attack to train against, which needs a gradient"),
        (["attack", "square", "params", "steps=7"], "square is no attack to train against, wh"),
        (["attack", "sqare", "params", "steps=7"], "there is no attack 'sqare'"),
        (["attack", "jsma"], "jsma is no attack to train against"),
        (["attack", "deepfool"], "deepfool is no attack to train against"),
        (["attack", "pdg"], r"there is no attack 'pdg'.*pgd"),
        (["params", "minimal=true"], "fgsm with minimal looks for the smallest"),
        (["attack", "bim", "random_start"], "random_start is of fgsm, not of bim"),
        (["epsilon", "0"], "epsilon must be one positive"),
        (["epsilon", "0.02", "0.01"], "a smaller and a larger one, not 0.02 0.01"),
        (["domain", "image"], "emo18 has no image to attack.*domain waveform"),
        (["beta", "3"], "beta is of trades and mart"),
        (["loss", "mart", "share", "0.5"], "mart compares each row with itself"),
        (["loss", "trades"], "flat at the clean input, where fgsm"),
        (
            ["loss", "trades", "attack", "pgd", "params", "norm=l1"],
            "projects onto an L∞ or an L2 ball, not l1",
        ),
        (["replays", "4", "awp", "0.01"], "set training.adversarial.awp back"),
        (["replays", "4", "attack", "pgd"], "replays is of fgsm, not of pgd; .*attack to fgsm"),
        (["params", "targeted=true"], r"leave targeted out of training\.adversarial\.params"),
    ],
)
def test_what_cannot_work_is_refused(more: list[str], sentence: str, tmp_path: Path) -> None:
    names = {"attack", "params", "random_start", "epsilon", "domain", "beta", "loss", "share"}
    flags = [f"--training.adversarial.{m}" if m in names | {"replays", "awp"} else m for m in more]
    with pytest.raises(UsageError, match=sentence):
        defence_of(config_of(tmp_path, tmp_path, *flags), Tiny(3), 10)


def test_what_cannot_work_is_told_before_the_speech_is_read(tmp_path: Path) -> None:
    more = ["--training.adversarial.attack", "square"]
    with pytest.raises(UsageError, match="square is no attack to train against"):
        train_victim(config_of(tmp_path / "nowhere", tmp_path / "run", *more))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["mixup", "0.2"],
            "attacks one by one; set it to 0, or leave training.adversarial.attack out",
        ),
        (["image_augmentation"], "changes images, after the waveform that is attacked"),
        (["monitor", "robust", "adversarial.watch_rows", "0"], "robust needs rows to watch"),
        (["accumulate", "2", "adversarial.replays", "3"], "several updates of a batch"),
        (["adversarial.share", "1.5"], "training.adversarial.share = '1.5' .*less than or equal"),
        (["adversarial.share", "0"], "training.adversarial.share = '0' .*greater than 0"),
        (["adversarial.epsilon", "1", "2", "3"], "training.adversarial.epsilon"),
        (["noise", "-1"], "training.noise = '-1'"),
        (["noise", "inf"], "training.noise = 'inf' .*finite"),
        (["learning_rate", "inf"], "training.learning_rate = 'inf' .*finite"),
        (["adversarial.awp", "1.5"], "training.adversarial.awp = '1.5' .*less than or equal to 1"),
        (["adversarial.warmup_epochs", "1e300"], "training.adversarial.warmup_epochs = '1e300'"),
        (["adversarial.attack", "none"], "epsilon is of training against an attack; give"),
    ],
)
def test_settings_that_contradict_each_other(
    more: list[str], sentence: str, tmp_path: Path
) -> None:
    flags = [
        f"--training.{m}" if m[0].isalpha() and m not in ("robust", "none", "inf") else m
        for m in more
    ]
    with pytest.raises(UsageError, match=sentence):
        defence_of(config_of(tmp_path, tmp_path, *flags), Tiny(3), 10)


@pytest.mark.parametrize(
    ("more", "rows", "sentence"),
    [
        (
            ["monitor", "robust"],
            0,
            "robust (the last epoch is taken as the best, and checkpoints/b",
        ),
        (["patience", "3"], 0, "training.patience 3 (all 4 epochs are run); a split that has one"),
        (
            ["monitor", "loss"],
            0,
            "training.monitor loss (the last epoch is taken as the best); a s",
        ),
        (["monitor", "last", "patience", "3"], 5, "training.patience 3 waits for a figure that"),
        ([], 0, None),
        (["monitor", "robust", "patience", "3"], 5, None),
        (["monitor", "last"], 0, None),
    ],
)
def test_what_no_validation_part_can_tell_is_said(
    more: list[str],
    rows: int,
    sentence: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flags = [f"--training.{m}" if m in ("monitor", "patience") else m for m in more]
    say_unchosen(config_of(tmp_path, tmp_path, *flags), rows)
    assert len(caplog.records) == (sentence is not None)
    assert (sentence or "") in "".join(record.getMessage() for record in caplog.records)


def test_a_split_without_a_validation_part_takes_the_last_epoch(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "speech"
    shutil.copytree(tiny_corpus, root)
    table = (root / "table.csv").read_text()
    (root / "table.csv").write_text(table.replace(",val", ",train"))
    more = ["--training.monitor", "robust", "--training.patience", "1", "--training.epochs", "2"]
    outcome = train_victim(config_of(root, tmp_path / "run", *more))
    assert outcome.results["best_epoch"] == outcome.results["epochs"] == 2
    (said,) = (r.getMessage() for r in caplog.records if "validation part" in r.getMessage())
    assert said.startswith("the split given has no validation part, which is asked for by tra")


def test_without_an_attack_nothing_is_robust(tmp_path: Path) -> None:
    argv = ["--out", str(tmp_path), "--training.monitor", "robust"]
    with pytest.raises(UsageError, match=r"monitor robust needs training.adversarial.attack"):
        defence_of(parse_command(TrainConfig, "p", "d", argv), Tiny(3), 10)
