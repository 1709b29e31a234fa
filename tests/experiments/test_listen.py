"""``python -m jaxser.listen``: one recording before and after the weakest attack that succeeds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser import listen, load_victim
from jaxser.attacks import FGSM
from jaxser.config import CorpusConfig
from jaxser.config.listen import parse_listen
from jaxser.experiments.weakest import recording, weakest
from jaxser.runtime.errors import InputError, report_errors
from jaxser.speech.audio import read_audio
from jaxser.victims.victim import Victim

SAMPLES = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("listen"))


@pytest.fixture
def run(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_networks(monkeypatch)
    return made


def test_what_is_written_is_what_the_victim_is_fooled_by(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, 0.3 * np.random.default_rng(1).uniform(-1, 1, 3_000), 16_000)
    argv = [str(file), "--victim", str(run), "--attack", "fgsm", "--out", str(tmp_path / "heard")]
    assert listen.main(argv) == 0
    out = capsys.readouterr().out
    victim = load_victim(run)
    (x, rate), (x_adv, _) = (
        read_audio(tmp_path / "heard" / f"{name}.wav") for name in ("original", "adversarial")
    )
    assert rate == victim.sample_rate == 8_000
    assert len(x) == victim.input_shape[0]
    before, after = (
        victim.labels[int(victim.logits(each[:, 0][None]).argmax())] for each in (x, x_adv)
    )
    assert before != after
    heard, attacked = re.findall(r"(?:s|power\) below it): (\w+) \d+%", out)
    assert (heard, attacked) == (before, after)
    peak = 20 * np.log10(np.abs(x).max() / np.abs(x_adv - x).max())
    assert f"{peak:.1f} dB (peak)" in out
    page = (tmp_path / "heard" / "listen.html").read_text()
    assert page.count("data:audio/wav;base64") == 3
    assert f"{before} or {after}?" in page
    assert "http" not in page.replace("http-equiv", "")


def linear(weight: float) -> Victim:
    """Two classes, which a change of every sample by less than a known size cannot swap."""
    kernel = np.full((SAMPLES, 2), weight, np.float32) * [[1.0, -1.0]]
    return Victim(
        apply=lambda variables, x: x @ variables["kernel"],
        variables={"kernel": kernel.astype(np.float32)},
        labels=("up", "down"),
        input_shape=(SAMPLES,),
    )


def test_the_weakest_is_found_to_half_a_decibel() -> None:
    victim = linear(0.5)
    x = np.full(SAMPLES, 0.25, np.float32)
    x[::2] = 0.15
    # FGSM moves every sample by ε against the sum: the classes swap at the mean of the samples.
    needed = 20 * np.log10(0.25 / 0.2)
    found = weakest(victim, x, FGSM(), (0.0, 30.0), seed=0)
    assert found.x_adv is not None
    assert found.after is not None
    assert found.before.argmax() == 0
    assert found.after.argmax() == 1
    assert needed - 0.5 <= found.snr_peak <= needed + 1e-3
    nothing = weakest(victim, x, FGSM(), (10.0, 30.0), seed=0)
    assert nothing.x_adv is None


def test_a_recording_is_what_the_victim_hears(tmp_path: Path) -> None:
    stereo = np.stack([np.full(32, 0.25), np.full(32, 0.75)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    victim = linear(1.0)
    np.testing.assert_array_equal(
        recording(tmp_path / "a.wav", victim, CorpusConfig()), np.full(SAMPLES, 0.25)
    )
    mean = recording(tmp_path / "a.wav", victim, CorpusConfig(channel="mean", windows=True))
    np.testing.assert_array_equal(mean, np.repeat([0.5, 0.0], 32))


def test_a_missing_recording_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match=r"absent\.wav: there is no such file"):
        parse_listen(["absent.wav", "--victim", "nowhere"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["."], "is a folder"),
        (["a.wav", "--snr", "60", "10"], "loudest and the quietest"),
        (["a.wav", "--snr", "10", "inf"], "loudest and the quietest"),
        (["a.wav", "--seconds", "nan"], "length above 0, not nan"),
        (["a.wav", "--seconds", "1"], "says how long its speech is; leave the seconds out"),
        (["a.wav", "--attack", "onepixl"], "no attack"),
        (["a.wav", "--victim", "nowhere"], "is not a run folder"),
        ([], "FILE.wav"),
    ],
)
def test_mistakes_are_one_sentence(
    argv: list[Any],
    words: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.wav").touch()
    if "--victim" not in argv and argv:
        argv = [*argv, "--victim", str(run)]
    assert report_errors(lambda: listen.main(argv)) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err


def test_silence_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3_000), 8_000)
    assert report_errors(lambda: listen.main([str(tmp_path / "a.wav"), "--victim", str(run)])) == 1
    assert "is silent" in capsys.readouterr().err
