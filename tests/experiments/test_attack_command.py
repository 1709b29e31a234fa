"""``python -m jaxser.attack``: tables, rows, WAV files, going on, and one sentence per mistake."""

import dataclasses
import fcntl
import json
import math
import os
import re
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
import soundfile
import yaml
from processor_time import processor_seconds
from tiny_networks import use_tiny_networks
from untrained_run import LABELS, RATE, make_run, make_tiny_run, write_corpus

from jaxser import attack, load_victim
from jaxser.attacks import ATTACKS, FGSM, PGD
from jaxser.attacks.base import Attack
from jaxser.attacks.deepfool import DeepFool
from jaxser.attacks.projections import Bounds
from jaxser.config import AttackCommandConfig
from jaxser.experiments import columns, speech
from jaxser.reporting.loading import load
from jaxser.results.reading import read_rows
from jaxser.results.training_facts import TrainingFacts
from jaxser.runtime.errors import report_errors
from jaxser.victims.training_record import write_cost

TEST_ROWS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("attack"))


@pytest.fixture
def victim(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose network compiles at once; other processes cannot load it."""
    use_tiny_networks(monkeypatch)
    return made


def run(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str, str]:
    status = report_errors(lambda: attack.main([str(each) for each in argv]))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_table_rows_and_wav_files(
    victim: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--victim", victim, "--attack", "fgsm", "--epsilon", "0.05", "0.00001")
    out = tmp_path / "rows"
    status, text, err = run(
        capsys, *arguments, "--out", out, "--save_wav", "--by", "gender", "--limit", 4
    )
    assert status == 0
    assert "note: made for a test" in text
    assert "4 utterances" in text
    assert "by gender" in text
    assert "rows/s steady state" in text
    assert "s of compilation" in text
    assert "8/8 rows" in err
    assert re.search(r"^took .*: loading JAX .*, clean pass .*, attacking ", text, re.MULTILINE)
    # What the columns mean is said once, though there are two tables.
    assert text.count("fooled: prediction changed, of all rows") == 1
    assert f"8 WAV files as {out.resolve() / 'wav' / 'epsilon-0.05'}" in text
    assert f"each beside the original, {out.resolve() / 'wav' / 'original'}" in text

    rows = read_rows(out).to_pylist()
    assert len(rows) == 8
    loaded = load_victim(victim)
    for row in rows:
        path = out / "wav" / f"epsilon-{row['epsilon']:g}" / f"{row['utterance']}.wav"
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        clean, _ = soundfile.read(
            victim.parent / "speech" / f"{row['utterance']}.wav", dtype="float32"
        )
        original, _ = soundfile.read(out / "wav" / "original" / f"{row['utterance']}.wav")
        np.testing.assert_array_equal(original, clean)
        # A δ of 1e-5 would not survive 16-bit files, whose step is 3e-5.
        assert np.abs(samples - clean).max() == pytest.approx(row["epsilon"], rel=0.02)
        predicted = int(np.asarray(loaded.logits(jnp.asarray(samples[None]))).argmax())
        assert row["prediction"] == loaded.labels[predicted]
        assert row["success"] == (row["prediction"] != row["label"])
        assert row["success_share"] == row["success"]  # a victim without noise
        assert row["source"] == row["utterance"]
        assert row["label_source"] == "truth"
        assert row["attacked_label"] == row["label"]
        assert row["linf"] == pytest.approx(row["epsilon"], rel=0.02)
        assert json.loads(row["parameters"])["targeted"] is False
    assert {row["gender"] for row in rows} == {"male", "female"}

    # A narrow terminal: no line is longer but for a path, and what left the table is named.
    monkeypatch.setenv("COLUMNS", "70")
    more = ("--out", out, "--save_wav", "--limit", 4)
    _, text, _ = run(capsys, *arguments, *more)
    assert all(len(line) <= 70 or len(line.split()) == 1 for line in text.splitlines())
    assert "in all 2 lines: attack fgsm; rows 4;" in text
    assert "(--wide shows all): " in " ".join(text.split())
    _, text, _ = run(capsys, *arguments, *more, "--wide")
    assert "--wide shows all" not in text
    assert "SNR power" in next(line for line in text.splitlines() if "robust acc" in line)
    monkeypatch.setenv("COLUMNS", "1000")

    # The same command again has nothing left to do; another ε adds its rows alone.
    status, text, _ = run(capsys, *arguments, "--out", out, "--save_wav", "--limit", 4)
    assert status == 0
    assert "all 8 rows were there already" in text
    status, text, _ = run(
        capsys, "--victim", victim, "--attack", "fgsm", "--epsilon", "0.1", "--out", out
    )
    assert status == 0
    assert len(read_rows(out)) == 8 + TEST_ROWS
    assert len(re.findall(r"fgsm +0\.1\b", text)) == 1


def test_a_defended_victim_says_against_what_and_at_what_cost(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hard = tmp_path / "made" / "run"
    shutil.copytree(victim.parent, hard.parent)
    config = yaml.safe_load((hard / "config.yaml").read_text())
    config["training"]["adversarial"] |= {"attack": "pgd", "epsilon": [0.002], "loss": "trades"}
    (hard / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ("--victim", hard, "--attack", "fgsm", "--epsilon", "0.05", "--out", tmp_path / "r")
    status, text, err = run(capsys, *arguments, "--limit", 3)
    assert status == 0, err
    told = "trained against pgd, ε 0.002 (trades)"
    assert f"emo18 of {hard}, {told}; " in text
    assert "its training took" not in text
    # Nobody has counted yet; what is known later is no other victim.
    write_cost(hard, TrainingFacts(seconds=8.0, device="a chip", queries=300, gradients=200))
    status, text, err = run(capsys, *arguments)
    assert status == 0, err
    assert "its training took 8.0 s on a chip, 300 forward and 200 backward passes" in text
    rows = read_rows(tmp_path / "r").to_pylist()
    assert [row["defence"] for row in rows] == [told] * TEST_ROWS
    assert [row["training_gradients"] for row in rows] == [None] * 3 + [200] * 3
    assert [row["training_seconds"] for row in rows[3:]] == [8.0] * 3
    (known,) = load([tmp_path / "r"]).victims.values()
    assert (known.defence, known.seconds, known.device) == (told, 8.0, "a chip")
    assert (known.queries, known.gradients) == (300, 200)
    assert math.isnan(known.compile_seconds)


def test_files_of_absolute_paths_lie_in_the_runs_folder(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "speech", LABELS)
    table = tmp_path / "speech" / "table.csv"
    header, *lines = table.read_text().splitlines()
    absolute = [f"{tmp_path / 'speech'}/{line}" for line in lines[:-3]]
    above = [f"../speech/{line}" for line in lines[-3:]]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "table.csv").write_text("\n".join([header, *absolute, *above]))
    out = tmp_path / "rows"
    arguments = ("--victim", victim, "--attack", "fgsm", "--epsilon", "0.05", "--save_wav", "--out",
                 out, "--corpus.root", tmp_path / "deep" / "table.csv")  # fmt: skip
    status, _, err = run(capsys, *arguments)
    assert status == 0, err
    names = read_rows(out)["utterance"].to_pylist()
    assert len([name for name in names if name.startswith("/")]) == TEST_ROWS - 3
    files = list((out / "wav").rglob("*.wav"))
    assert len(files) == 2 * TEST_ROWS
    assert len(list((out / "wav" / "original").rglob("*.wav"))) == TEST_ROWS
    # All are found again: nothing is left to do.
    before = [file.stat().st_mtime_ns for file in files]
    assert run(capsys, *arguments)[0] == 0
    assert [file.stat().st_mtime_ns for file in files] == before


def test_probabilities_in_place_of_logits(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of their own, that say what the attack was given; an amplitude is said, too."""
    common = ("--victim", victim, "--epsilon", "100", "--limit", 2)
    attack = ("--attack", "jsma", "--params", "amplitude=0.1", "steps=2")
    for output in ("logits", "probabilities"):
        status, text, err = run(capsys, *common, *attack, "--output", output)
        assert status == 0, err
        assert "epsilon (samples)" in text
        assert ("outputs look like probabilities" in text) == (output == "probabilities")
    rows = read_rows(victim / "attacks").to_pylist()
    assert [row["output"] for row in rows].count("probabilities") == len(rows) / 2 == 2
    assert len({row["victim_fingerprint"] for row in rows}) == 2
    for row in rows:
        flagged = "output looks like probabilities" in row["flags"]
        assert flagged == (row["output"] == "probabilities")
        assert row["amplitude"] == 0.1
        assert row["linf"] <= 0.1 + 1e-6
    again = run(capsys, *common, *attack, "--output", "probabilities")
    assert "2/2 rows" not in again[2]  # nothing is left to do


def test_what_is_shown_can_be_seen_and_heard(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--victim", victim, "--attack", "fgsm", "--epsilon", "0.1", "--out", tmp_path)
    assert run(capsys, *arguments)[0] == 0
    name = read_rows(tmp_path)["utterance"][3].as_py()
    # As much of the id as is needed.
    status, _, err = run(capsys, *arguments, "--show", name.rpartition("/")[2])
    assert status == 0
    assert "1/1 rows" in err  # made again, as nothing of it was kept
    folder = tmp_path / "shown" / "epsilon-0.1" / name
    heard = {
        kind: soundfile.read(folder / f"{kind}.wav", dtype="float32")[0]
        for kind in ("original", "adversarial", "difference")
    }
    clean, _ = soundfile.read(victim.parent / "speech" / f"{name}.wav", dtype="float32")
    np.testing.assert_array_equal(heard["original"], clean)
    np.testing.assert_array_equal(heard["adversarial"] - clean, heard["difference"])
    assert 0 < np.abs(heard["difference"]).max() <= 0.1 * (1 + 1e-6)
    assert matplotlib.image.imread(folder / "picture.png").std() > 0.05
    assert len(read_rows(tmp_path)) == TEST_ROWS
    assert "1/1" not in run(capsys, *arguments, "--show", name)[2]


def test_what_cannot_be_shown_says_where_it_is(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--victim", victim, "--attack", "fgsm", "--epsilon", "0.1", "--out", tmp_path)
    assert run(capsys, *arguments)[0] == 0
    names = read_rows(tmp_path)["utterance"].to_pylist()
    shown = ("--show", names[3].rpartition("/")[2])
    for more, words in (
        (("--split", "train", *shown), f"{names[3]} is in the test part of"),
        (("--limit", "1", *shown), f"{names[3]} is not among the 1 utterance attacked"),
    ):
        status, _, err = run(capsys, *arguments, *more)
        assert status == 2, words
        assert words in err
        assert err.count("\n") == 1


def test_intelligibility_on_request(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Of each row's own speech; the function itself is tested elsewhere."""
    monkeypatch.setattr(
        columns,
        "short_time_intelligibility",
        lambda x, x_adv, rate: np.abs(x_adv - x).sum(axis=1) / rate,
    )
    arguments = ("--victim", victim, "--attack", "pgd", "--epsilon", "0.1", "0.01")
    status, text, _ = run(capsys, *arguments, "--stoi", "--out", tmp_path)
    assert status == 0
    assert "STOI" in text
    rows = read_rows(tmp_path).to_pylist()
    assert len({row["stoi"] for row in rows}) > TEST_ROWS
    for row in rows:
        assert row["stoi"] == pytest.approx(row["l1"] / RATE, rel=1e-4)


def test_a_run_goes_on_after_a_loss(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--victim", victim, "--attack", "fgsm", "--epsilon", "0.05", "--out", tmp_path)
    assert run(capsys, *arguments, "--limit", 2)[0] == 0
    first = read_rows(tmp_path)
    status, _, err = run(capsys, *arguments)
    assert status == 0
    assert f"{TEST_ROWS - 2}/{TEST_ROWS - 2} rows" in err
    both = read_rows(tmp_path)
    assert len(both) == TEST_ROWS
    np.testing.assert_equal(both.slice(0, 2).to_pylist(), first.to_pylist())  # NaN equals NaN


def test_the_default_folder_knows_what_makes_a_row(
    victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--victim", victim, "--attack", "fgsm", "--limit", 2)
    run(capsys, *common, "--epsilon", 0.01)
    run(capsys, *common, "--epsilon", 0.02)
    run(capsys, *common, "--epsilon", 0.01, "--seed", 1)
    run(capsys, *common, "--epsilon", 0.01, "--y", "prediction")
    status, text, _ = run(capsys, *common, "--epsilon", 0.01, "--target", "joy")
    assert status == 0
    assert "towards joy" in text
    folders = sorted((victim / "attacks").glob("fgsm-*"))
    assert sorted(len(read_rows(folder)) for folder in folders) == [2, 2, 2, 4]
    by_source = {read_rows(f)["label_source"][0].as_py(): read_rows(f) for f in folders}
    assert set(by_source) == {"truth", "prediction", "target"}
    aimed = by_source["target"].to_pylist()
    assert all(row["attacked_label"] == "joy" != row["label"] for row in aimed)
    assert all(row["success"] == (row["prediction"] == "joy") for row in aimed)
    predicted = by_source["prediction"].to_pylist()
    assert all(row["attacked_label"] == row["clean_prediction"] for row in predicted)


def test_an_epsilon_in_decibels(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--victim", victim, "--attack", "fgsm", "--limit", 2, "--out", tmp_path)
    status, text, _ = run(
        capsys, *arguments, "--epsilon_unit", "snr_peak", "--epsilon", 10, 30, "--save_wav"
    )
    assert status == 0
    rows = read_rows(tmp_path).to_pylist()
    assert {row["epsilon_unit"] for row in rows} == {"snr_peak"}
    assert {row["epsilon_norm"] for row in rows} == {"linf"}
    for row in rows:
        assert row["snr_peak"] == pytest.approx(row["epsilon"], abs=0.3)
        assert row["epsilon_amplitude"] == pytest.approx(row["linf"], rel=0.03)
        assert (
            tmp_path / "wav" / f"snr_peak-{row['epsilon']:g}" / f"{row['utterance']}.wav"
        ).exists()
    # From the weaker to the stronger one.
    assert 0 < text.index("epsilon (dB peak)") < text.index(" 30 ") < text.index(" 10 ")
    # The same number in another unit is another row.
    assert "limits nothing" not in text
    status, text, _ = run(capsys, *arguments, "--epsilon", 10)
    assert status == 0
    assert text.count("note: epsilon 10 limits nothing: values are from -1 to 1, and none can") == 1
    (note,) = [note for note in load([tmp_path]).notes if "limits nothing" in note]
    assert note.endswith("change by more than 2")
    assert len(read_rows(tmp_path)) == 4 + 2


def test_a_search_for_the_smallest_perturbation(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(ATTACKS, "deepfool", DeepFool)
    arguments = ("--victim", victim, "--attack", "deepfool", "--y", "prediction", "--out", tmp_path)
    status, text, _ = run(capsys, *arguments)
    assert status == 0
    rows = read_rows(tmp_path).to_pylist()
    assert len(rows) == TEST_ROWS
    assert all(row["epsilon"] == row["epsilon_amplitude"] == np.inf for row in rows)
    found = np.array([row["found_norm"] for row in rows])
    assert [row["success"] for row in rows] == (~np.isnan(found)).tolist()
    assert (~np.isnan(found)).sum() > 0
    mean, median = np.nanmean(found), np.nanmedian(found)
    assert f"l2 {mean:.3g}/{median:.3g}" in text
    budget = float(np.nanmedian(found))
    status, text, _ = run(capsys, *arguments, "--epsilon", budget)
    assert status == 0
    bounded = read_rows(tmp_path).to_pylist()[TEST_ROWS:]
    assert [row["success"] for row in bounded] == [
        row["found_norm"] <= budget * (1 + 1e-6) for row in bounded
    ]
    assert all(row["l2"] == 0 for row in bounded if not row["success"])


@dataclasses.dataclass(frozen=True)
class Pair:
    """PGD that hardly moves, FGSM, and PGD that does."""

    name: ClassVar[str] = "pair"

    targeted: bool = False
    bounds: Bounds = (-1.0, 1.0)

    def attacks(self, num_classes: int) -> tuple[Attack, ...]:
        assert num_classes == len(LABELS)
        return PGD(steps=1, step_size=1e-9, random_start=False), FGSM(), PGD(steps=20)


def test_a_composite_attack_says_who_succeeded(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(ATTACKS, "pair", Pair)
    status, text, err = run(
        capsys,
        *("--victim", victim, "--attack", "pair", "--epsilon", "0.00001", "0.3"),
        *("--out", tmp_path),
    )
    assert status == 0
    assert f"{2 * TEST_ROWS}/{2 * TEST_ROWS} rows" in err
    assert "pair" in text
    rows = read_rows(tmp_path).to_pylist()
    assert {row["stage"] for row in rows} <= {None, "pgd 1", "fgsm", "pgd 2"}
    for row in rows:
        wrong = row["clean_prediction"] != row["label"]
        assert (row["stage"] is not None) == (row["success"] and not wrong)
        spent = {None: 22, "pgd 1": 1, "fgsm": 2, "pgd 2": 22}[row["stage"]]
        assert row["queries"] == (0 if wrong else spent)
    assert {row["stage"] for row in rows} >= {None, "fgsm"}


def test_odd_victims_are_pointed_out(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    plain = load_victim(victim)

    def noisy(variables: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        logits = plain.apply(variables, x)
        noise = jax.vmap(lambda key: jax.random.normal(key, logits.shape[1:]))(keys)
        return jax.nn.softmax(logits + noise)

    odd = dataclasses.replace(plain, apply=noisy, randomised=True)
    monkeypatch.setattr(speech, "load_victim", lambda *_: odd)
    status, text, _ = run(
        *(capsys, "--victim", victim, "--attack", "fgsm", "--epsilon", 0.01, "--out", tmp_path),
        *("--draws", 3),
    )
    assert status == 0
    assert "note: the victim is randomised" in text
    assert f"look like probabilities for {TEST_ROWS} of {TEST_ROWS} utterances" in text
    shares = set()
    for row in read_rows(tmp_path).to_pylist():
        assert {"randomised victim", "output looks like probabilities"} <= set(row["flags"])
        assert row["success"] == (row["success_share"] > 0)
        shares.add(round(3 * row["success_share"], 6))
    # Of three draws: thirds, and not all of them noughts and ones.
    assert shares <= {0, 1, 2, 3}
    assert shares & {1, 2}


class Terminal:
    """What a process shows on a terminal of 200 columns, and when."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self.shown = ""
        self.drawn: list[float] = []

    def read(self, patience: float = 120.0) -> bool:
        """Wait for something to appear; False once the process has closed the terminal."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._ours, selectors.EVENT_READ)
            assert waiting.select(patience), self.shown
        try:
            text = os.read(self._ours, 65_536).decode()
        except OSError:  # how Linux says that the other end was closed
            return False
        self.shown += text
        self.drawn.append(time.monotonic())
        return bool(text)


@pytest.mark.long
@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    """A real SIGINT to a real process, whose terminal sees it live in the meantime."""
    epsilons = [f"{0.001 * i:g}" for i in range(1, 200)]
    victim, tmp_path = make_run(tmp_path), tmp_path / "rows"
    command = [sys.executable, "-m", "jaxser.attack", "--victim", str(victim), "--epsilon"]
    command += [*epsilons, "--params", "steps=60", "--batch_size", "2", "--out", str(tmp_path)]
    terminal = Terminal()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal.theirs, text=True
    ) as process:
        os.close(terminal.theirs)
        try:
            while not re.search(r" [1-9]\d*/1194 rows", terminal.shown):
                assert terminal.read()
            started = len(terminal.drawn)
            while len(terminal.drawn) < started + 4:
                assert terminal.read()
            process.send_signal(signal.SIGINT)
            while terminal.read():
                pass
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    # Twice the second between two drawings: the test machine may be busy.
    assert np.diff(terminal.drawn[started - 1 : started + 4]).max() < 2.0
    assert "Traceback" not in terminal.shown
    assert out == ""
    kept = len(read_rows(tmp_path))
    assert 0 < kept < 1194
    assert terminal.shown.replace("\r", "").strip().splitlines()[-1] == (
        f"interrupted: {kept} rows are kept in {tmp_path}; the same command goes on from there."
    )
    assert re.search(
        r"queries \(\d+\.\d/s\), robust accuracy .*%, fooled .*%, .* left", terminal.shown
    )
    assert list(tmp_path.glob(".*")) == []


def test_hyper_parameters_reach_the_attack(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = run(
        capsys,
        *("--victim", victim, "--attack", "pgd", "--epsilon", 0.5, "--limit", 2),
        *("--params", "steps=2", "norm=l2", "random_start=false", "--out", tmp_path),
    )
    assert status == 0
    assert "steps 2," in text
    assert "norm l2" in text
    rows = read_rows(tmp_path).to_pylist()
    assert all(row["queries"] == row["gradients"] == row["steps"] == 2 for row in rows)
    assert all(row["l2"] == pytest.approx(0.25 + 0.125, rel=0.5) for row in rows)


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("--epsilon", "0"), 2, "positive and finite"),
        (("--epsilon", "-0.1"), 2, "positive and finite"),
        (("--epsilon", "inf"), 2, "finite"),
        (("--epsilon", "0.1", "0.1"), 2, "given twice"),
        (("--epsilon_unit", "snr_peak"), 2, "needs an --epsilon in dB"),
        (("--epsilon_unit", "snr"), 2, "epsilon_unit"),
        (
            ("--epsilon_unit", "snr_peak", "--epsilon", "20", "--params", "norm=l2"),
            2,
            "peak SNR does not bound",
        ),
        (("--attack", "pdg"), 2, "did you mean 'pgd'"),
        (("--params", "stepps=3"), 2, "did you mean 'steps'"),
        (("--params", "steps"), 2, "name=value"),
        (("--params", "targeted=true"), 2, "--target"),
        (("--show", "part0/u60"), 2, "did you mean 'part0/u6'"),
        (("--show", "part0/u60"), 2, "is no utterance of"),
        (("--show", "part"), 2, "did you mean"),
        (("--target", "jo"), 2, "did you mean 'joy'"),
        (("--epsilom", "0.1"), 2, "did you mean '--epsilon'"),
        (("--limit", "0"), 2, "limit"),
        (("--corpus.name", "ravdess"), 2, "corpus.root"),
        (("--corpus.root", "/nowhere"), 1, "nowhere"),
    ],
)
def test_mistakes_get_one_sentence(
    victim: Path,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    got, _, err = run(capsys, "--victim", victim, *argv)
    assert got == status
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_folder_that_is_no_victim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "--victim", tmp_path)
    assert status == 1
    assert "is not a run folder" in err


def test_speech_that_has_changed_since_training_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_networks(monkeypatch)
    folder = make_tiny_run(tmp_path)
    config = AttackCommandConfig(victim=folder)
    speech.load_speech(config)
    assert "has changed" not in caplog.text
    soundfile.write(tmp_path / "speech" / "part0" / "u0.wav", np.full(2000, 0.25), RATE)
    speech.load_speech(config)
    assert f"has changed since the victim in {folder} was trained on it" in caplog.text


def test_a_corpus_with_other_labels(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "other", ("anger", "boredom", "joy"))
    status, _, err = run(capsys, "--victim", victim, "--corpus.root", tmp_path / "other")
    assert status == 1
    assert "was not trained on: boredom" in err


def test_rows_of_another_run_are_not_mixed(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--victim", victim, "--attack", "fgsm", "--limit", 2, "--out", tmp_path)
    assert run(capsys, *common)[0] == 0
    status, _, err = run(capsys, *common, "--y", "prediction")
    assert status == 2
    assert "give another --out" in err


def test_help_is_quick() -> None:
    start = processor_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "jaxser.attack", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert processor_seconds() - start < 1.5
    assert "--epsilon" in done.stdout
    code = "import sys, jaxser.attack; print('jax' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
