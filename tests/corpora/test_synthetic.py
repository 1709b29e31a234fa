"""Synthetic speech: bytes by seed, fair splits, prosody as designed, whole or absent."""

import hashlib
import itertools
import json
import signal
import subprocess
import sys
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import sosfilt

from jaxser.corpora import assign_split, load, synthetic
from jaxser.corpora.synthetic.randomness import generator_of
from jaxser.corpora.synthetic.sentences import make_sentence, time_phones
from jaxser.corpora.synthetic.speakers import draw_manner, make_speakers
from jaxser.corpora.synthetic.vocal_tract import BANDWIDTHS, UPPER_FORMANTS, formant_filter
from jaxser.corpora.synthetic.voice_source import glottal_source, tilt_response
from jaxser.runtime.errors import InputError

RATE = synthetic.SAMPLE_RATE
SMALL = {"speakers": 6, "utterances_per_speaker_and_emotion": 1, "seconds": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Twelve speakers, two utterances per speaker and emotion."""
    folder = tmp_path_factory.mktemp("made") / "speech"
    synthetic.generate(folder, speakers=12, utterances_per_speaker_and_emotion=2, seconds=1.5)
    return folder


@pytest.fixture(scope="module")
def sounds(root) -> dict[str, list[np.ndarray]]:
    """Waveforms of every emotion, in the order of speakers and takes."""
    by_label: dict[str, list[np.ndarray]] = {label: [] for label in synthetic.LABELS}
    for utterance in synthetic.read(root):
        by_label[utterance.label].append(soundfile.read(utterance.path)[0])
    return by_label


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def voiced_frames(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clearly voiced frames of 50 ms, and the f0 in Hz of each.

    f0 is at the first high peak of the autocorrelation.
    """
    length = 800
    frames = np.lib.stride_tricks.sliding_window_view(x, length)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, :length]
    correlation *= length / (length - np.arange(length)) / correlation[:, :1]
    lags = np.arange(RATE // 600, RATE // 60)
    inner = correlation[:, lags]
    best = inner.max(axis=1, keepdims=True)
    peaks = (inner >= correlation[:, lags - 1]) & (inner >= correlation[:, lags + 1])
    high = peaks & (inner > 0.85 * best)
    voiced = (best[:, 0] > 0.7) & high.any(axis=1) & (frames.std(axis=1) > 0.3 * x.std())
    return frames[voiced], RATE / lags[high.argmax(axis=1)][voiced]


def voiced_pitch(x: np.ndarray) -> np.ndarray:
    return voiced_frames(x)[1]


def spectral_fall(sounds: list[np.ndarray], low: tuple[int, int], high: tuple[int, int]) -> float:
    """dB by which the mean power of a band exceeds that of another, in voiced frames."""
    frequency = np.fft.rfftfreq(800, 1 / RATE)
    falls = []
    for x in sounds:
        power = np.mean(np.abs(np.fft.rfft(voiced_frames(x)[0] * np.hanning(800))) ** 2, axis=0)
        levels = [power[(frequency >= a) & (frequency < b)].mean() for a, b in (low, high)]
        falls.append(10 * np.log10(levels[0] / levels[1]))
    return float(np.mean(falls))


def mean_semitones(sounds: list[np.ndarray]) -> float:
    return float(np.mean([12 * np.log2(np.median(voiced_pitch(x))) for x in sounds]))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        synthetic.generate(tmp_path / name, seed=seed, **SMALL)
    a, b, c = (tree_hash(tmp_path / name / "synthetic_wav") for name in "abc")
    assert tree_hash(tmp_path / "a") == tree_hash(tmp_path / "b")
    assert a == b
    assert a != c


def test_an_utterance_does_not_depend_on_how_many_others_there_are(tmp_path, root):
    synthetic.generate(
        tmp_path / "few", speakers=6, utterances_per_speaker_and_emotion=1, seconds=1.5
    )
    name = "synthetic_wav/syn_s04_m_disgust_00.wav"
    assert (tmp_path / "few" / name).read_bytes() == (root / name).read_bytes()


def test_no_two_utterances_are_alike(sounds):
    everything = [x.tobytes() for x in itertools.chain.from_iterable(sounds.values())]
    assert len(set(everything)) == len(everything) == 12 * 7 * 2


def test_counts_and_names(root):
    utterances = synthetic.read(root)
    assert len({u.id for u in utterances}) == 12 * 7 * 2
    counts = Counter((u.speaker, u.label) for u in utterances)
    assert len(counts) == 12 * 7
    assert set(counts.values()) == {2}
    for u in utterances:
        number, gender, label, _ = u.path.stem.removeprefix("syn_").split("_")
        assert (number, gender, label) == (u.speaker, u.gender[0], u.label)
    assert {u.label for u in utterances} == set(synthetic.SPEC.labels)


@pytest.mark.parametrize("speakers", [6, 10, 20, 24])
def test_splits_share_no_speaker_and_balance_the_genders(tmp_path, speakers, monkeypatch):
    monkeypatch.setattr(
        synthetic.folder, "synthesize", lambda *_: np.ones(RATE, np.int16)
    )  # only the table matters here
    synthetic.generate(
        tmp_path / "x", speakers=speakers, utterances_per_speaker_and_emotion=1, seconds=1.0
    )
    who = {(u.split, u.gender, u.speaker) for u in synthetic.read(tmp_path / "x")}
    assert len(who) == speakers, "a speaker is in one split and has one gender"
    sizes = Counter((split, gender) for split, gender, _ in who)
    assert set(sizes) == set(itertools.product(("train", "val", "test"), ("female", "male")))
    for split in ("train", "val", "test"):
        assert sizes[split, "female"] == sizes[split, "male"]
    assert sizes["val", "male"] == sizes["test", "male"] == max(1, round(speakers / 10))


def test_files_are_16_khz_16_bit_mono_of_the_given_length(root):
    for utterance in synthetic.read(root):
        with wave.open(str(utterance.path)) as file:
            assert file.getparams()[:4] == (1, 2, RATE, round(1.5 * RATE))


def test_nothing_clips_and_nothing_is_silent(sounds):
    peaks = []
    for x in itertools.chain.from_iterable(sounds.values()):
        peaks.append(np.abs(x).max())
        active = x.reshape(-1, 400).std(axis=1) > 0.05 * x.std()
        assert active.mean() > 0.4, "most of an utterance is speech"
        assert abs(x.mean()) < 1e-3
        # The background noise is there, and it is mild: the first 20 ms come before the voice.
        assert 1e-5 < x[:320].std() < 0.2 * x.std()
    assert max(peaks) < 1.0
    assert min(peaks) > 0.05
    assert max(peaks) > 2 * min(peaks), "recording levels differ"


def test_everything_says_that_it_is_synthetic(root):
    corpus = load("synthetic", root)
    assert corpus.synthetic
    assert corpus.title == "synthetic speech"
    assert corpus.language == "none"
    assert any("nothing about human emotion" in note for note in corpus.notes)
    assert all("synthetic" in u.id for u in corpus.utterances)
    assert "SYNTHETIC" in (root / "README.txt").read_text(encoding="utf-8")
    assert (root / "manifest.csv").read_text(encoding="utf-8").count("synthetic_wav/syn_") == 168


def test_pitch_follows_the_design(sounds):
    level = {label: mean_semitones(sounds[label]) for label in synthetic.LABELS}
    for label in ("anger", "fear", "happiness", "boredom", "sadness"):
        designed = synthetic.EMOTIONS[label].pitch
        # Intensity and expression average about 0.76; speakers differ by what they differ.
        assert level[label] - level["neutral"] == pytest.approx(0.76 * designed, abs=1.7), label
    assert level["anger"] > level["sadness"] + 2


def test_pitch_range_follows_the_design(sounds):
    def spread(label: str) -> float:
        # Quartiles, as a few frames are an octave off.
        quartiles = [np.percentile(np.log2(voiced_pitch(x)), (25, 75)) for x in sounds[label]]
        return 12 * float(np.mean([high - low for low, high in quartiles]))

    neutral = spread("neutral")
    assert min(spread("happiness"), spread("anger")) > 1.6 * neutral
    assert max(spread("boredom"), spread("sadness"), spread("fear")) < 0.9 * neutral


def test_women_speak_higher_than_men(root):
    by_gender = {"female": [], "male": []}
    for u in synthetic.read(root):
        if u.label == "neutral":
            by_gender[u.gender].append(soundfile.read(u.path)[0])
    assert 7 < mean_semitones(by_gender["female"]) - mean_semitones(by_gender["male"]) < 14


def test_spectral_tilt_and_breath_follow_the_design(sounds):
    tilt = {
        label: spectral_fall(sounds[label], (100, 1000), (2000, 3500)) for label in synthetic.LABELS
    }
    assert tilt["anger"] < tilt["neutral"] - 2 < tilt["boredom"] - 3
    breath = {
        label: -spectral_fall(sounds[label], (2000, 3500), (5500, 7500))
        for label in synthetic.LABELS
    }
    assert min(breath["sadness"], breath["fear"]) > breath["neutral"] + 1
    assert breath["sadness"] > breath["anger"] + 4


def test_tempo_follows_the_design():
    """Syllables are counted where they are timed: nothing measures them as surely."""
    speakers = make_speakers(0, 40)

    def rate(label: str) -> float:
        count = 0
        for number, speaker in enumerate(speakers):
            rng = generator_of(9, number)
            manner = draw_manner(rng, speaker, label)
            sentence = make_sentence(rng, 40)
            phones = time_phones(rng, sentence, speaker, manner, 3.0)
            assert phones[0].start == 0
            assert phones[-1].end == 3.0
            for one, other in itertools.pairwise(phones):
                assert one.start < one.end == other.start
            count += len({p.syllable for p in phones if p.name})
        return count / (3 * len(speakers))

    assert rate("fear") > 1.2 * rate("neutral") > 1.4 * rate("boredom")
    assert 3 < rate("neutral") < 6


def test_glottal_source_has_the_pitch_it_was_given():
    rng = np.random.default_rng(0)
    steady = synthetic.Prosody(jitter=-20, shimmer=-20)
    flow, opening = glottal_source(rng, np.full(RATE, 123.0), steady, 0.6)
    spectrum = np.abs(np.fft.rfft(flow * np.hanning(RATE)))
    harmonics = spectrum[123 * np.arange(1, 20)]
    assert spectrum[50:200].argmax() + 50 == 123
    assert harmonics.min() > 20 * spectrum[62 + 123 * np.arange(1, 20)].max()
    assert opening.min() == 0
    assert opening.max() == pytest.approx(1, abs=0.01)
    # Creak halves the pitch: every second cycle differs.
    flow, _ = glottal_source(
        rng, np.full(RATE, 124.0), synthetic.Prosody(jitter=-20, shimmer=-20, creak=0.8), 0.6
    )
    spectrum = np.abs(np.fft.rfft(flow * np.hanning(RATE)))
    assert spectrum[62] > 0.1 * spectrum[124]


@pytest.mark.parametrize("decibels", [0.0, 6.0, 20.0])
def test_tilt_loses_what_it_says_at_3_khz(decibels):
    response = np.abs(tilt_response(decibels, RATE))
    assert response[0] == pytest.approx(1)
    assert -20 * np.log10(response[3000]) == pytest.approx(decibels, abs=1e-9)


def test_still_formants_filter_as_scipy_does():
    source = np.random.default_rng(0).standard_normal(40 * 160)
    source[-400:] = 0  # the last frame of a sound fades out
    formants = np.tile([500.0, 1500.0, 2500.0], (40, 1))
    sections = []
    for centre, width in (
        *zip((500, 1500, 2500), BANDWIDTHS, strict=True),
        *UPPER_FORMANTS,
    ):
        radius = np.exp(-np.pi * width / RATE)
        first, second = -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2
        sections.append([1 + first + second, 0, 0, 1, first, second])
    expected = sosfilt(np.array(sections), source)
    found = formant_filter(source, formants, 1.0)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.std())


def test_a_whole_corpus_is_kept_and_read_back(tmp_path):
    folder = tmp_path / "deep" / "speech"
    synthetic.generate(folder, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    synthetic.generate(folder, **SMALL)
    assert len(synthetic.read(folder)) == 42
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    assert [p.name for p in folder.parent.iterdir()] == ["speech"]


def test_read_makes_the_corpus_where_the_folder_is_absent_or_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(
        synthetic.folder, "synthesize", lambda *a: np.full(round(a[-1] * RATE), 9, "i2")
    )
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        corpus = assign_split(load("synthetic", tmp_path / name, seed=5))
        assert len(corpus.utterances) == 1400
        assert Counter(u.split for u in corpus.utterances) == {
            "train": 840,
            "val": 280,
            "test": 280,
        }
        assert json.loads((tmp_path / name / "synthetic.json").read_text())["seed"] == 5
    with pytest.raises(InputError, match="of seed 5, not 6"):
        load("synthetic", tmp_path / "empty", seed=6)


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for call in (synthetic.generate, synthetic.read):
        with pytest.raises(InputError, match="not synthetic speech") as error:
            call(tmp_path)
        one_sentence(error)
        with pytest.raises(InputError, match="is a file") as error:
            call(tmp_path / "thesis.txt")
        one_sentence(error)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_corpus_of_other_settings_is_refused(tmp_path):
    synthetic.generate(tmp_path / "x", **SMALL)
    before = tree_hash(tmp_path / "x")
    with pytest.raises(InputError, match="other settings") as error:
        synthetic.generate(tmp_path / "x", **{**SMALL, "seed": 1})
    one_sentence(error)
    assert tree_hash(tmp_path / "x") == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda x: next(x.glob("*/*.wav")).unlink(), "41 of 42"),
        (lambda x: next(x.glob("*/*.wav")).write_bytes(b"RIFF"), "41 of 42"),
        (lambda x: (x / "synthetic.json").write_text("{"), "is damaged"),
        (lambda x: (x / "synthetic.json").write_text('{"version": 1}'), "is damaged"),
        (lambda x: (x / "synthetic.json").unlink(), "no synthetic.json"),
        (lambda x: (x / "manifest.csv").unlink(), "manifest.csv"),
    ],
)
def test_a_part_of_a_corpus_is_refused(tmp_path, damage, words):
    synthetic.generate(tmp_path / "x", **SMALL)
    damage(tmp_path / "x")
    for call in (lambda x: synthetic.generate(x, **SMALL), synthetic.read):
        with pytest.raises(InputError, match=words) as error:
            call(tmp_path / "x")
        one_sentence(error)


def test_a_corpus_of_an_older_generator_is_refused(tmp_path, monkeypatch):
    synthetic.generate(tmp_path / "x", **SMALL)
    monkeypatch.setattr(synthetic.folder, "VERSION", synthetic.VERSION + 1)
    with pytest.raises(InputError, match="delete the folder") as error:
        synthetic.read(tmp_path / "x")
    one_sentence(error)


@pytest.mark.parametrize(
    "setting",
    [
        {"speakers": 4},
        {"speakers": 7},
        {"utterances_per_speaker_and_emotion": 0},
        {"seconds": 0.2},
        {"seconds": float("nan")},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, setting):
    with pytest.raises(InputError) as error:
        synthetic.generate(tmp_path / "x", **setting)
    one_sentence(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, failure):
    write, written = synthetic.folder._write_wav, []

    def failing(path, samples):
        if len(written) == 5:
            raise failure
        written.append(path)
        write(path, samples)

    monkeypatch.setattr(synthetic.folder, "_write_wav", failing)
    with pytest.raises(type(failure)):
        synthetic.generate(tmp_path / "x", **SMALL)
    assert len(written) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_killed_generation_leaves_nothing_under_the_final_name(tmp_path):
    program = (
        "import os, signal, sys\n"
        "from jaxser.corpora import synthetic\n"
        "write, written = synthetic.folder._write_wav, []\n"
        "def killing(path, samples):\n"
        "    write(path, samples)\n"
        "    written.append(path)\n"
        "    if len(written) == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "synthetic.folder._write_wav = killing\n"
        "synthetic.generate(sys.argv[1], speakers=6, utterances_per_speaker_and_emotion=1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists()
    synthetic.generate(tmp_path / "x", **SMALL)
    assert len(synthetic.read(tmp_path / "x")) == 42


def test_a_second_process_that_was_quicker_wins(tmp_path, monkeypatch):
    """Both find the folder absent; the later one keeps what the first one made."""
    write = synthetic.folder._write_corpus

    def overtaken(folder, settings):
        write(folder, settings)
        if not (tmp_path / "x").exists():
            (tmp_path / "x").mkdir()
            write(tmp_path / "x", settings)

    monkeypatch.setattr(synthetic.folder, "_write_corpus", overtaken)
    synthetic.generate(tmp_path / "x", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert len(synthetic.read(tmp_path / "x")) == 42


def test_files_beside_the_manifest_are_reported_as_stray(tmp_path):
    synthetic.generate(tmp_path / "x", **SMALL)
    soundfile.write(tmp_path / "x" / "mine.wav", np.zeros(100), RATE)
    stray = synthetic.SPEC.left_out(tmp_path / "x")
    assert [file.path.name for file in stray] == ["mine.wav"]
    assert "1 stray file left out of synthetic speech" in load("synthetic", tmp_path / "x").notes
