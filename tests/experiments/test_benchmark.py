"""``jaxser.benchmark`` and suites: any model to rows and a worst case in one call."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pytest
import small_victims
import yaml
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

import jaxser
from jaxser import attack as attack_command
from jaxser import sweep
from jaxser.attacks import PGD, from_parameters
from jaxser.config import AttackCommandConfig
from jaxser.config.suites import SUITES, Suite, scaled_epsilons, suite_configs, suite_of
from jaxser.driver.named_attack import attack_of
from jaxser.experiments import benchmark_result
from jaxser.experiments.benchmark import _victim as made_victim
from jaxser.experiments.benchmark_result import BenchmarkResult
from jaxser.reporting.loading import load
from jaxser.results import worst_case
from jaxser.results.reading import read_rows
from jaxser.results.worst_case import WorstCase, worst_cases
from jaxser.runtime.errors import InputError, UsageError

COUNT = 6
LABELS = ("anger", "joy", "fear", "calm", "none")


def logits_fn(x: Any) -> Any:
    return small_victims.small_victim("conv").logits(x)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return small_victims.waveforms(COUNT)


@pytest.fixture(scope="module")
def y(x: np.ndarray) -> np.ndarray:
    # One of them is wrong before any attack.
    y = np.array(logits_fn(x).argmax(axis=1))
    y[0] = (y[0] + 1) % 5
    return y


@pytest.fixture(scope="module")
def result(x: np.ndarray, y: np.ndarray) -> BenchmarkResult:
    return jaxser.benchmark(
        logits_fn,
        x,
        y,
        suite="quick",
        labels=LABELS,
        ids=[f"u{i}" for i in range(COUNT)],
        speakers=["a", "a", "b", "b", "c", "c"],
        genders=["female"] * 4 + ["male"] * 2,
        shown=False,
    )


def test_rows_are_those_that_run_attack_finds(
    result: BenchmarkResult, x: np.ndarray, y: np.ndarray
) -> None:
    rows = result.rows.to_pylist()
    assert len(rows) == 3 * 5 * COUNT
    assert {row["suite"] for row in rows} == {"quick-1"}
    assert {row["victim"].split()[0] for row in rows} == {"logits_fn"}
    assert {row["speaker"] for row in rows} == {"a", "b", "c"}
    ids = [f"u{i}" for i in range(COUNT)]
    own = jaxser.run_attack(logits_fn, x, y, PGD(steps=20), suite_of("quick").epsilons, ids=ids)
    found = {
        (row["epsilon"], row["utterance"]): row["prediction"]
        for row in rows
        if row["attack"] == "pgd"
    }
    for e, epsilon in enumerate(own.epsilons):
        for i, name in enumerate(ids):
            assert found[epsilon, name] == LABELS[own.prediction[e, i]]
    assert result.clean_accuracy.value == pytest.approx(5 / 6)


def test_the_worst_case_is_over_all_attacks(result: BenchmarkResult) -> None:
    for epsilon, worst in result.worst_case.items():
        right: dict[str, bool] = {}
        for row in result.rows.to_pylist():
            if row["epsilon"] == epsilon:
                same = row["prediction"] == row["label"]
                right[row["utterance"]] = right.get(row["utterance"], True) and same
        assert worst.value == pytest.approx(np.mean(list(right.values())))
    assert result.worst_case[0.01].value < result.worst_case[0.0005].value


def test_a_result_says_what_it_is(result: BenchmarkResult, tmp_path: Path) -> None:
    assert "\n" not in repr(result)
    assert repr(result).startswith(
        "BenchmarkResult(quick-1 on logits_fn: 3 attacks, accuracy 83.3%"
    )
    text = result.summary()
    assert text.startswith("quick-1 on logits_fn: 3 attacks, 6 inputs\n")
    assert "worst case" in text
    assert "over speakers" in result.summary("speaker")
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_worst_case_is_looked_for_once(
    result: BenchmarkResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, asked = dataclasses.replace(result), []

    def counted(rows: pa.Table, over: str = "utterance") -> list[WorstCase]:
        asked.append(over)
        return worst_cases(rows, over)

    for place in (benchmark_result, worst_case):
        monkeypatch.setattr(place, "worst_cases", counted)
    assert fresh.worst_case == result.worst_case
    assert fresh.summary() == result.summary()
    fresh.plot()
    assert fresh.summary("speaker") == fresh.summary("speaker") != fresh.summary()
    assert asked == ["utterance", "speaker"]


def test_a_saved_result_is_read_as_any_run(result: BenchmarkResult, tmp_path: Path) -> None:
    result.save(tmp_path / "mine")
    # As text, where NaN is NaN.
    assert str(read_rows(tmp_path / "mine").to_pylist()) == str(result.rows.to_pylist())
    rows = load([tmp_path / "mine"])
    assert len(rows.settings) == 15
    assert {setting.label for setting in rows.settings} == {"noise", "fgsm", "pgd"}
    assert len(rows.sources) == 3
    with pytest.raises(UsageError, match="holds rows already"):
        result.save(tmp_path / "mine")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite without what takes longest to compile."""
    few = tuple(entry for entry in SUITES["quick"].attacks if entry.attack != "pgd")
    monkeypatch.setitem(SUITES, "quick", Suite("quick-1", few))


@pytest.mark.usefixtures("short")
def test_epsilons_are_shares_of_half_the_bounds() -> None:
    suite = suite_of("standard")
    assert scaled_epsilons(suite.name, suite.epsilons, (-1.0, 1.0)) == suite.epsilons
    assert scaled_epsilons(suite.name, (0.01, 0.5), (-5.0, 7.0)) == (0.06, 3.0)
    with pytest.raises(UsageError, match="has none"):
        scaled_epsilons(suite.name, (0.01,), None)
    plain = small_victims.small_victim("spectrogram")
    x = small_victims.spectrograms(2)
    found = jaxser.benchmark(plain, x, [0, 1], name="mine", shown=False)
    assert list(found.worst_case) == [0.003, 0.006, 0.012, 0.03, 0.06]
    rows = found.rows.to_pylist()
    assert {row["domain"] for row in rows} == {"features"}
    assert {row["victim"].split()[0] for row in rows} == {"mine"}
    for row in rows:
        assert row["linf"] <= row["epsilon"] + 1e-6


@pytest.mark.parametrize("name", SUITES)
def test_suites_hold_attacks_within_one_norm(name: str) -> None:
    """Names, versions and lists are what papers quote: a list that changes needs a new version."""
    suite = suite_of(name)
    assert suite is suite_of(suite.name)
    assert suite.name == f"{name}-1"
    configs = suite_configs(AttackCommandConfig(suite=name))
    for config in configs:
        attack = attack_of(config)
        assert getattr(attack, "epsilon_norm", None) or getattr(attack, "norm", None) == "linf"
        assert getattr(attack, "epsilon_norm", "linf") == "linf"
        assert config.epsilon == (0.0005, 0.001, 0.002, 0.005, 0.01)
        assert config.suite == suite.name
    known = {
        "quick": ["noise", "fgsm", "pgd"],
        "standard": ["apgd", "deepfool", "fab", "square"],
        "full": ["autoattack", "sparsepgd", "hopskipjump"],
    }
    smaller = {"quick": [], "standard": ["quick"], "full": ["quick", "standard"]}[name]
    listed = [attack for each in [*smaller, name] for attack in known[each]]
    assert [config.attack for config in configs] == listed
    assert attack_of(configs[2]) == PGD(steps=20)
    if name != "quick":
        assert attack_of(configs[3]) == from_parameters("apgd", {"steps": 50})
        assert attack_of(configs[6]) == from_parameters("square", {"queries": 500})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"suite": "quick-2"}, "no suite 'quick-2'"),
        ({"labels": ["a", "b"]}, "has 5 classes but labels are 2"),
        ({"labels": ["a", "b", "c", "d", "a"]}, "5 classes but labels are 4"),
        ({"ids": ["a"]}, "6 inputs but 1 ids"),
        ({"ids": ["a"] * 6}, "ids must be different"),
        ({"speakers": ["a"]}, "6 inputs but 1 speakers"),
        ({"y": [0]}, "labels of shape"),
        ({"x": np.full((6, 64), 2.0)}, "outside the bounds"),
        ({"x": np.zeros(64)}, "axis for the batch"),
        ({"x": "a.wav"}, "axis for the batch"),
        ({"genders": ["f"] * 6}, "no gender 'f'; valid names are female, male"),
        ({"bounds": (-1, 1, 2)}, "low < high"),
        ({"bounds": (1, -1)}, "low < high"),
        ({"victim": "runs/x"}, "load_victim"),
    ],
)
def test_mistakes_are_a_sentence(
    changes: dict[str, Any], words: str, x: np.ndarray, y: np.ndarray
) -> None:
    given = {"victim": logits_fn, "x": x, "y": y, "shown": False, **changes}
    # A checker of annotations, where the tests run under one, would answer first.
    unchecked = inspect.unwrap(jaxser.benchmark)
    with pytest.raises(InputError, match=words):
        unchecked(given.pop("victim"), given.pop("x"), given.pop("y"), **given)


# --- the commands -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("suite"))


@pytest.mark.usefixtures("short")
def test_attack_and_sweep_take_a_suite(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny_networks(monkeypatch)
    asked = ["--victim", str(made), "--suite", "quick", "--limit", "2"]
    assert attack_command.main([*asked, "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "quick-1:\n" in out
    assert "worst case" in out
    rows = read_rows(tmp_path / "a").to_pylist()
    assert len(rows) == 2 * 5 * 2
    assert {row["suite"] for row in rows} == {"quick-1"}
    # A run that was made goes on, and is not made again.
    assert attack_command.main([*asked, "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.count("were there already") == 2

    file = tmp_path / "s.yaml"
    content = {"out": str(tmp_path / "s"), "victims": [str(made)], "attacks": ["bim"], "limit": 2}
    file.write_text(yaml.safe_dump(content))
    assert sweep.main([str(file), "--suite", "quick"]) == 0
    swept = read_rows(tmp_path / "s").to_pylist()
    key = ("attack", "epsilon", "utterance", "prediction", "suite")
    assert {tuple(r[k] for k in key) for r in swept} == {tuple(r[k] for k in key) for r in rows}


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ({"suite": "quick", "attacks": ["pgd"]}, [], "leave one out"),
        ({"suite": "quick", "epsilon": [0.1]}, [], "leave one out"),
        ({"attacks": ["pgd"], "target": "joy"}, ["--suite", "full"], "has no target"),
        ({"suite": "slow"}, [], "no suite 'slow'"),
    ],
)
def test_a_sweep_of_a_suite_says_no_attacks_of_its_own(
    content: dict[str, Any], flags: list[str], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({"out": "o", "victims": ["v"], **content}))
    with pytest.raises(UsageError, match=words):
        sweep.main([str(file), *flags])


def test_an_attack_of_a_suite_says_no_attack_of_its_own() -> None:
    for flags in (["--attack", "bim"], ["--epsilon", "0.1"], ["--target", "joy"]):
        with pytest.raises(UsageError, match=rf"leave {flags[0]} out"):
            attack_command.main(["--suite", "quick", *flags])


def test_a_module_behind_vmap_is_called_by_its_class() -> None:
    """As of Equinox: what ``jax.vmap`` makes of it is "<unnamed function>" by itself."""

    class Net:
        def __call__(self, x: jax.Array) -> jax.Array:
            return x

    x = np.zeros((2, 4), np.float32)
    for model, name in ((jax.vmap(Net()), "Net"), (jax.jit(logits_fn), "logits_fn")):
        assert made_victim(model, x, None, (-1, 1), None).name == name
