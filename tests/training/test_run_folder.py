"""What describes a run is there whole or not at all, whatever fails while it is written."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml
from faults import Kind, fail_in_turn

from jaxser.config import CorpusConfig, TrainConfig, to_mapping
from jaxser.corpora import Prepared
from jaxser.corpora.selection import select
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.locks import held
from jaxser.training.folder import begun, describe_run, run_folder
from jaxser.victims.run_folder import read_run


@pytest.fixture(scope="module")
def config(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return TrainConfig(
        corpus=CorpusConfig(
            name="csv",
            root=tiny_corpus,
            split="given",
            sample_rate=8000,
            seconds=0.1,
            cache_dir=tmp_path_factory.mktemp("cache"),
        )
    )


@pytest.fixture(scope="module")
def prepared(config: TrainConfig) -> Prepared:
    return select(config.corpus)


def describe(config: TrainConfig, prepared: Prepared, out: Path) -> None:
    with run_folder(out):
        describe_run(dataclasses.replace(config, out=out), prepared)


def mark_begun(out: Path) -> None:
    (out / "checkpoints/last/5").mkdir(parents=True)


@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "described before"])
def test_any_failure_leaves_what_the_same_command_goes_on_with(
    config: TrainConfig, prepared: Prepared, tmp_path: Path, kind: Kind, before: bool
) -> None:
    parent = tmp_path / "runs"

    def again() -> Path:
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir()
        if before:
            describe(dataclasses.replace(config, seed=7), prepared, parent / "run")
            (parent / "run/checkpoints/best/3").mkdir(parents=True)
        return parent

    failed = 0
    for _, folder, disk in fail_in_turn(
        again, lambda folder: describe(config, prepared, folder / "run"), kind
    ):
        failed += 1
        out = folder / "run"
        if kind == "full":
            assert not out.exists() or not list(out.iterdir()), disk.asked
        describe(config, prepared, out)
        found, facts = read_run(out)
        assert found.seed == 0
        assert facts["labels"] == ["high", "low", "noise"]
        assert sorted(path.name for path in out.iterdir()) == [
            "config.yaml",
            "run.json",
            "split.csv",
        ]
    assert failed > 12  # three files, each opened, written, synced and renamed


def test_what_fails_at_once_leaves_no_folder(
    config: TrainConfig, prepared: Prepared, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def fail() -> None:
        with run_folder(out):
            describe_run(dataclasses.replace(config, out=out), prepared)
            (out / "tensorboard").mkdir()
            raise InputError("training.batch_size is too large")

    with pytest.raises(InputError, match="too large"):
        fail()
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InputError, match="too large"):
        fail()
    assert list(out.iterdir()) == []


def test_other_things_stay(config: TrainConfig, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holds other things \(photo"):
        describe(config, prepared, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_the_lock_comes_before_the_look(
    config: TrainConfig, prepared: Prepared, tmp_path: Path
) -> None:
    """Who comes second sees files without a config while the first is describing its run."""
    (tmp_path / "run.json").write_text("{}")
    with held(tmp_path, "trained"), pytest.raises(InputError, match="being trained by another"):
        describe(config, prepared, tmp_path)


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path: Path) -> None:
    """A fine-tuned run would go on from random weights instead of its checkpoint's."""
    (tmp_path / "checkpoints/last/5.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not begun(tmp_path)
    mark_begun(tmp_path)
    assert begun(tmp_path)


@pytest.mark.parametrize("sign", ["results.json", "history.csv"])
def test_a_trained_run_without_its_last_checkpoint_is_not_trained_over(
    config: TrainConfig, prepared: Prepared, tmp_path: Path, sign: str
) -> None:
    out = tmp_path / "run"
    describe(config, prepared, out)
    best = out / "checkpoints/best/9"
    best.mkdir(parents=True)
    (out / sign).write_text("epoch,loss\n1,0.5\n2,0.4\n")
    with pytest.raises(UsageError, match="without checkpoints/last"):
        describe(config, prepared, out)
    assert best.is_dir()


def test_a_cut_config_is_no_config(config: TrainConfig, prepared: Prepared, tmp_path: Path) -> None:
    """At every byte: what is missing must not come from the defaults."""
    out = tmp_path / "run"
    describe(config, prepared, out)
    path = out / "config.yaml"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"config\.yaml is not what training wrote"):
            read_run(out)
    path.write_bytes(whole)
    assert read_run(out)[0].corpus == dataclasses.replace(
        config.corpus, root=config.corpus.root.resolve()
    )


@pytest.mark.parametrize("order", [True, False], ids=["sorted", "as declared"])
def test_a_cut_config_without_a_digest(tmp_path: Path, order: bool) -> None:
    facts = {"labels": ["a", "b"], "corpus": {"fingerprint": "f", "notes": []}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    path = tmp_path / "config.yaml"
    values = to_mapping(TrainConfig())
    # Fields of later versions, which must not be looked for.
    for newer in ("adversarial", "noise", "image_augmentation", "report_train"):
        del values["training"][newer]
    del values["generator"]["keep_snr"]
    whole = yaml.safe_dump(values, sort_keys=order).encode()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_run(tmp_path)
    path.write_bytes(whole)
    assert read_run(tmp_path)[0] == TrainConfig()
