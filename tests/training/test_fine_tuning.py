"""Fine-tuning a checkpoint of Hugging Face's layout by the real commands, and giving it back."""

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_pretrained import CONFIG, make_pretrained
from training_processes import assert_same_run, interrupt, run

from jaxser import attack, export, load_victim, train
from jaxser.runtime.errors import report_errors
from jaxser.victims.hugging_face.reading import read_pretrained


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pretrained(tmp_path_factory.mktemp("hub") / "tiny", ("calm", "loud"))


def tiny(root: Path, out: Path, checkpoint: Path, *more: str) -> list[str]:
    return [
        *("--corpus.name", "csv", "--corpus.root", str(root), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--model.name", "wav2vec2-base", "--model.checkpoint", str(checkpoint)),
        *("--training.epochs", "2", "--training.batch_size", "6", *more),
    ]


@pytest.fixture(scope="module")
def command(
    tiny_corpus: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The command by which ``tuned`` was made."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    argv = tiny(tiny_corpus, out, checkpoint, "--training.layer_decay", "0.9")
    return [*argv, "--training.accumulate", "2"]


@pytest.fixture(scope="module")
def tuned(command: list[str]) -> Path:
    out = Path(command[command.index("--out") + 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSER_CACHE", str(out.parent / "cache"))
        assert train.main(command) == 0
    return out


@pytest.fixture
def without_checkpoint(tuned: Path, checkpoint: Path) -> Iterator[None]:
    """The run folder stands by itself, the checkpoint may go."""
    checkpoint.rename(checkpoint.with_name("moved"))
    yield
    checkpoint.with_name("moved").rename(checkpoint)


@pytest.mark.long
def test_a_checkpoint_is_fine_tuned(tuned: Path, checkpoint: Path) -> None:
    victim = load_victim(tuned)
    before = read_pretrained(checkpoint).variables["params"]
    after = victim.variables["params"]
    jax.tree.map(np.testing.assert_array_equal, after["feature_encoder"], before["feature_encoder"])
    kernel = ("encoder", "layer1", "output", "kernel")
    assert np.abs(_at(after, kernel) - _at(before, kernel)).max() > 1e-5


@pytest.mark.long
@pytest.mark.usefixtures("without_checkpoint")
def test_what_was_fine_tuned_is_exported(tuned: Path, tmp_path: Path) -> None:
    victim = load_victim(tuned)
    export.export(tuned, tmp_path / "exported")
    again = load_victim(tmp_path / "exported")
    assert again.labels == victim.labels
    x = np.random.default_rng(0).normal(0, 0.1, (3, 800)).astype(np.float32)
    found, expected = (jax.jit(each.logits)(x) for each in (again, victim))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
@pytest.mark.usefixtures("without_checkpoint")
def test_what_was_fine_tuned_is_attacked_and_shown_again(
    tuned: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--victim", str(tuned), "--attack", "fgsm", "--epsilon", "0.01"]
    assert attack.main(argv) == 0
    assert train.main(command) == 0
    assert "wav2vec2-base" in capsys.readouterr().out


@pytest.mark.long
def test_killed_fine_tuning_goes_on_to_the_same_victim(
    tiny_corpus: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Frozen layers, rates by layer, warm-up and half-accumulated gradients all come back."""

    def argv(out: Path) -> list[str]:
        more = ["--training.epochs", "5", "--training.checkpoint_minutes", "0.001"]
        more += ["--training.layer_decay", "0.9", "--training.accumulate", "4"]
        more += ["--training.warmup_steps", "2"]
        return tiny(tiny_corpus, out, checkpoint, *more)

    cache, killed, undisturbed = (tmp_path / each for each in ("cache", "killed", "undisturbed"))
    run(argv(undisturbed), cache)
    assert interrupt(argv(killed), cache, 1, 0.02, signal.SIGKILL) == -signal.SIGKILL
    assert not (killed / "results.json").exists()
    run(argv(killed), cache)
    assert_same_run(killed, undisturbed)


@pytest.mark.long
def test_all_groups_are_trained_where_asked(
    tiny_corpus: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    argv = tiny(tiny_corpus, out, checkpoint, "--model.freeze_feature_encoder", "false")
    assert train.main(argv) == 0
    before = read_pretrained(checkpoint).variables["params"]["feature_encoder"]["kernel1"]
    after = load_victim(out).variables["params"]["feature_encoder"]["kernel1"]
    assert np.abs(np.asarray(after) - before).max() > 1e-5


def _at(tree: dict, path: tuple[str, ...]) -> np.ndarray:
    for part in path:
        tree = tree[part]
    return np.asarray(tree)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--model.name", "hubert-base"], "holds a wav2vec2 model, not hubert-base"),
        (["--model.name", "emo18"], "holds a wav2vec2 model, not emo18"),
        (["--corpus.sample_rate", "16000"], "is for speech at 8000 Hz"),
        (["--corpus.seconds", "0.001"], "needs utterances of at least 20 samples"),
        (["--model.dropout", "0.1"], "no setting 'dropout'"),
        (["--model.checkpoint", "nowhere"], "nowhere has no config.json"),
        (
            ["--model.scan_layers", "true", "--training.layer_decay", "0.9"],
            "or model.scan_layers to false",
        ),
    ],
)
def test_one_sentence_for_what_does_not_fit(
    more: list[str],
    sentence: str,
    tiny_corpus: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = tiny(tiny_corpus, tmp_path / "run", checkpoint, *more)
    assert report_errors(lambda: train.main(argv)) in (1, 2)
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_rates_by_layer_need_a_transformer(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        *("--corpus.name", "csv", "--corpus.root", str(tiny_corpus), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1"),
        *("--model.name", "emo18", "--training.layer_decay", "0.9"),
        *("--out", str(tmp_path / "run")),
    ]
    assert report_errors(lambda: train.main(argv)) == 2
    assert "needs the blocks of a speech transformer" in capsys.readouterr().err


def test_the_tiny_architecture_is_the_one_of_the_checkpoint(checkpoint: Path) -> None:
    module = read_pretrained(checkpoint).module
    assert dataclasses.asdict(module.config) == dataclasses.asdict(CONFIG)
