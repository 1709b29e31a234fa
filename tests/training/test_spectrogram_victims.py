"""A victim that reads spectrograms, trained and attacked in both domains by the real commands."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import yaml
from flax import linen as nn

from jaxser import attack, evaluate, load_victim, train
from jaxser.config import TrainingConfig
from jaxser.corpora.selection import select, split_rows
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import report_errors
from jaxser.training.optimizer import make_optimizer, plateau_rate, with_plateau_rate
from jaxser.training.victim import (
    EpochMetrics,
    TrainState,
)
from jaxser.victims.run_folder import read_run


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


def tiny(root: Path, out: Path, *more: str) -> list[str]:
    """51 frames of 26 bands: one slice."""
    return [
        *("--corpus.name", "csv", "--corpus.root", str(root), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--features.kind", "log_mel", "--features.n_fft", "64", "--features.hop_length", "16"),
        *("--features.n_mels", "26", "--features.bounds", "-4", "4", "--model.name", "cnn_lstm_m1"),
        *("--training.epochs", "4", "--training.batch_size", "6", "--training.monitor", "loss"),
        *("--training.schedule", "plateau", "--training.decay_epochs", "1", *more),
    ]


@pytest.fixture(scope="module")
def trained(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spectrograms") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSER_CACHE", str(out.parent / "cache"))
        assert train.main(tiny(tiny_corpus, out)) == 0
    return out


def fail(command, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    status = report_errors(lambda: command.main(argv))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert status in (1, 2)
    return error


def features_of_part(run: Path, part: str) -> np.ndarray:
    config, _ = read_run(run)
    prepared = select(config.corpus)
    victim = load_victim(run)
    assert victim.front_end is not None
    rows = split_rows(prepared.corpus, part)
    features = jax.jit(victim.front_end.features)
    return np.asarray(features(victim.variables, prepared.waveforms[rows]))


def test_statistics_are_those_of_the_training_part(trained: Path) -> None:
    features = features_of_part(trained, "train")
    assert features.shape[1:] == (51, 26)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-2)
    assert np.abs(features_of_part(trained, "test").mean(axis=0)).max() > 0.05


def test_the_papers_protocol_fits_on_all_parts(tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train.main(tiny(tiny_corpus, out, "--corpus.protocol", "paper")) == 0
    whole = np.concatenate([features_of_part(out, part) for part in ("train", "val", "test")])
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-3)
    notes = json.loads((out / "run.json").read_text())["corpus"]["notes"]
    assert any(note.startswith("leaky protocol: feature statistics") for note in notes)


def test_both_domains_are_attacked(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = {}
    for domain, epsilon in (("waveform", "0.05"), ("features", "0.5")):
        argv = ["--victim", str(trained), "--attack", "pgd", "--epsilon", epsilon]
        argv += ["--domain", domain, "--params", "steps=3"]
        assert attack.main(argv) == 0
        printed = capsys.readouterr().out
        assert ("on the features of cnn_lstm_m1" in printed) == (domain == "features")
        assert ("features outside the attack's bounds" in printed) == (domain == "features")
        folder = Path(printed.rsplit("rows in ", 1)[1].strip())
        tables[domain] = read_rows(folder).to_pylist()
        assert len(tables[domain]) == 12
        assert {row["domain"] for row in tables[domain]} == {domain}
        assert all(0 < row["linf"] <= float(epsilon) * 1.0001 for row in tables[domain])
    clean = [
        {row["utterance"]: row["clean_prediction"] for row in rows} for rows in tables.values()
    ]
    assert clean[0] == clean[1]


@pytest.mark.long
def test_a_report_sets_the_domains_side_by_side(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for domain, epsilon in (("features", 1.0), ("waveform", 0.1)):
        content = {"title": f"{domain} table", "domain": domain, "snr": [20, 0]}
        content["attacks"] = [{"name": "FGSM", "attack": "fgsm", "epsilon": [epsilon]}]
        tables.append(tmp_path / f"{domain}.yaml")
        tables[-1].write_text(yaml.safe_dump(content))
    out = tmp_path / "report"
    argv = [*map(str, tables), "--victim", str(trained), "--out", str(out)]
    assert evaluate.main(argv) == 0
    report = (out / "report.md").read_text()
    assert "## Features against waveform" in report
    assert "| attack | before | features | waveform, 20 dB | waveform, 0 dB |" in report
    pictures = sorted(path.name for path in out.glob("*spectrograms*.png"))
    assert pictures == [
        f"{d}_table_spectrograms_csv_clean_run_{gender}.png"
        for d in ("features", "waveform")
        for gender in ("female", "male")
    ]


def test_statistics_of_another_corpus_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--victim", str(trained), "--corpus.name", "synthetic", "--domain", "features"]
    assert "standardised with statistics of csv" in fail(attack, argv, capsys)


def test_no_table_by_gender_without_genders(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = read_run(trained)
    assert config.corpus.root is not None
    root = tmp_path / "nameless"
    shutil.copytree(config.corpus.root, root)
    (table,) = root.glob("*.csv")
    header, *lines = [line.split(",") for line in table.read_text().splitlines()]
    keep = [i for i, name in enumerate(header) if name != "gender"]
    table.write_text("\n".join(",".join(row[i] for i in keep) for row in (header, *lines)) + "\n")
    argv = ["--victim", str(trained), "--corpus.root", str(root), "--by", "gender"]
    assert "does not say its speakers' gender" in fail(attack, argv, capsys)


def test_features_stay_within_their_bounds(trained: Path) -> None:
    victim = load_victim(trained, "features")
    assert (victim.input_shape, victim.bounds) == ((51, 26), (-4.0, 4.0))
    features = features_of_part(trained, "test")
    logits, same = (jax.jit(each.logits)(features) for each in (victim, load_victim(trained)))
    np.testing.assert_allclose(logits, same, atol=1e-6)


@pytest.mark.parametrize("flag", [["--stoi"], ["--show", "u1"]])
def test_features_are_no_speech(
    trained: Path, capsys: pytest.CaptureFixture[str], flag: list[str]
) -> None:
    argv = ["--victim", str(trained), "--attack", "fgsm", "--domain", "features", *flag]
    assert report_errors(lambda: attack.main(argv)) == 2
    assert f"{flag[0]} is of speech" in capsys.readouterr().err


def test_attacked_features_can_be_heard(trained: Path, tmp_path: Path) -> None:
    argv = ["--victim", str(trained), "--attack", "fgsm", "--domain", "features", "--save_wav"]
    argv += ["--epsilon", "0.01", "--limit", "2", "--out", str(tmp_path / "rows")]
    assert attack.main(argv) == 0
    paths = sorted(tmp_path.glob("rows/wav-inverted/epsilon-0.01/*.wav"))
    assert len(paths) == 2
    config, _ = read_run(trained)
    prepared = select(config.corpus)
    victim = load_victim(trained)
    assert victim.front_end is not None
    features = jax.jit(victim.front_end.features)
    stems = [u.id for u in prepared.corpus.utterances]
    asked = [
        np.asarray(
            features(victim.variables, prepared.waveforms[stems.index(path.stem)][None, :800])
        )
        for path in paths
    ]
    for place, path in enumerate(paths):
        x, rate = soundfile.read(path, dtype="float32")
        assert rate == 8000
        heard = np.asarray(features(victim.variables, np.resize(x, 800)[None]))
        # The bands are few and the frames short, so a guess of the phase tells little more than
        # which of the two it was.
        own, other = (
            np.corrcoef(heard.ravel(), each.ravel())[0, 1]
            for each in (asked[place], asked[place - 1])
        )
        assert own > other


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("--model.name", "emo18"), "emo18 reads waveforms, not log_mel"),
        (("--features.kind", "waveform"), "cnn_lstm_m1 reads spectrograms; give features.kind"),
        (("--training.mixup", "0.4"), "training.mixup mixes waveforms"),
        (("--features.n_mels", "20"), "too small for this CNN-LSTM"),
        (("--features.fmax", "5000"), "above half the sample rate"),
        (("--model.name", "cnn_lstm", "--model.dropout", "1"), "model.dropout = '1'"),
    ],
)
def test_one_sentence_for_what_does_not_fit(
    changes, sentence, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fail(train, tiny(tiny_corpus, tmp_path / "run", *changes), capsys)
    assert sentence in error


def test_wrong_bounds_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    config["features"]["bounds"] = [4.0, -4.0]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    facts = json.loads((trained / "run.json").read_text())
    del facts["config_sha256"]  # the config is another one
    (tmp_path / "run.json").write_text(json.dumps(facts))
    for name in ("split.csv", "checkpoints"):
        (tmp_path / name).symlink_to(trained / name)
    argv = ["--victim", str(tmp_path), "--attack", "fgsm", "--domain", "features"]
    assert "features.bounds must be a smaller and a larger value" in fail(attack, argv, capsys)


def test_features_outside_their_bounds_are_counted(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = features_of_part(trained, "test")
    argv = ["--victim", str(trained), "--attack", "noise", "--epsilon", "0.5"]
    argv += ["--domain", "features"]
    for half in (4.0, 2.0, 1000.0):
        bounds = [] if half == 4.0 else ["--params", f"bounds={-half},{half}"]
        assert attack.main([*argv, *bounds]) == 0
        told = re.search(r"note: (\d+) of 12 utterances have features", capsys.readouterr().out)
        outside = int((np.abs(features).max(axis=(1, 2)) > half).sum())
        assert (int(told[1]) if told else 0) == outside
    assert features.max() < 1000


def test_the_rate_falls_when_the_loss_does_not() -> None:
    """Keras' rule: a reduction starts the count anew, and 1e-4 is no improvement."""
    config = TrainingConfig(schedule="plateau", learning_rate=1.0, decay=0.1, decay_epochs=2)
    losses = [3.0, 2.0, 2.1, 1.99995, 2.0, 2.0, 1.0, 1.1]
    rates = [plateau_rate(config, losses[:count]) for count in range(len(losses) + 1)]
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_the_optimiser_gets_the_rate() -> None:
    """Two updates apart only in history: the step is ten times shorter after the decay."""
    config = TrainingConfig(schedule="plateau", learning_rate=0.5, decay=0.1, decay_epochs=1)
    model = nn.Dense(2)
    optimizer = make_optimizer(config, steps_per_epoch=1)
    params = model.init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={},
        opt_state=optimizer.init(params),
        metrics=EpochMetrics.zeros(2),
        frozen={},
    )
    gradients = jax.tree.map(jnp.ones_like, params)

    def length(state: TrainState) -> float:
        updates, _ = optimizer.update(gradients, state.opt_state, params)
        return float(jnp.abs(updates["kernel"]).max())

    before = length(with_plateau_rate(state, config, [{"val_loss": 1.0}]))
    after = length(with_plateau_rate(state, config, [{"val_loss": 1.0}, {"val_loss": 1.0}]))
    assert before == pytest.approx(0.5, rel=1e-3)
    assert after == pytest.approx(0.05, rel=1e-3)
