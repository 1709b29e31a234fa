"""Chunks and augmentation: what is cut, what it is called, which part it goes to."""

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
import soundfile

from jaxser import corpora
from jaxser.config import CorpusConfig
from jaxser.corpora import AudioSettings, prepare
from jaxser.corpora.chunks import PITCH_STEPS, SPEEDS, Chunking, chunks_of, trim_silence, variants
from jaxser.corpora.selection import select, split_rows
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.integrity import DIGESTS

RATE = 8_000
NAMES = [f"pitch{step:+g}" for step in PITCH_STEPS] + [f"stretch{speed:g}" for speed in SPEEDS]


def tone(seconds, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def silence(seconds):
    return 1e-4 * np.random.default_rng(0).normal(size=round(seconds * RATE))


def loudest_frequency(x):
    return np.argmax(np.abs(np.fft.rfft(x * np.hanning(len(x))))) * RATE / len(x)


def test_silence_is_cut_from_both_ends_to_within_a_frame():
    x = np.concatenate([silence(0.5), tone(1.0), silence(0.7)])
    trimmed = trim_silence(x, Chunking())
    assert RATE <= len(trimmed) <= RATE + 2 * 512
    start = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(x, 64) == trimmed[:64]).all(1))
    assert 0 <= 0.5 * RATE - start[0] <= 512


def test_digital_silence_stays_whole():
    assert len(trim_silence(np.zeros(4000), Chunking())) == 4000


def test_an_utterance_is_cut_into_chunks_that_are_trimmed_again_and_repeated():
    # The second chunk begins in the silence before the second tone.
    x = np.concatenate([silence(0.3), tone(0.9), silence(0.4), tone(0.4, 700.0), silence(0.2)])
    chunks = list(chunks_of(x, RATE, RATE, Chunking()))
    assert [(c.number, c.variant, c.name) for c in chunks] == [(0, "", "0"), (1, "", "1")]
    assert all(c.samples.shape == (RATE,) and c.samples.dtype == np.float32 for c in chunks)
    assert abs(loudest_frequency(chunks[0].samples) - 440) < 5
    second = chunks[1].samples
    assert abs(loudest_frequency(second) - 700) < 5
    # Speech all through, by repetition, where it was silent for half.
    loudness = np.abs(second).reshape(-1, 400).max(axis=1)
    assert (loudness > 0.1).mean() > 0.8


def test_eight_versions_change_pitch_or_length_alone():
    x = tone(1.0).astype(np.float32)
    made = dict(variants(x, RATE))
    assert list(made) == NAMES
    for step in PITCH_STEPS:
        y = made[f"pitch{step:+g}"]
        assert len(y) == len(x)
        assert loudest_frequency(y) == pytest.approx(440 * 2 ** (step / 12), rel=0.01)
    for speed in SPEEDS:
        y = made[f"stretch{speed:g}"]
        assert len(y) == round(len(x) / speed)
        assert loudest_frequency(y) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize("settings", [{"top_db": 0.0}, {"frame_length": 0}, {"hop_length": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match="must be positive"):
        Chunking(**settings)


@pytest.fixture
def speech(tmp_path):
    """EmoDB's layout, four speakers, 1.3 s at 8 kHz: two chunks of 1 s."""
    root = tmp_path / "emodb"
    for speaker, code in itertools.product(("03", "08", "12", "14"), "WLEAFNT"):
        rng = np.random.default_rng(ord(code) + int(speaker))
        x = tone(1.3, rng.uniform(200, 900)) + rng.normal(0, 0.05, round(1.3 * RATE))
        (root / "wav").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"wav/{speaker}a01{code}a.wav", x * 0.5, RATE)
    return root


def settings(**chunking):
    return AudioSettings(sample_rate=RATE, seconds=1.0, chunking=Chunking(**chunking))


def test_every_chunk_is_a_row_of_the_table(speech, tmp_path):
    corpus = corpora.load("emodb", speech)
    prepared = prepare(corpus, settings(), cache_dir=tmp_path / "cache", workers=3)
    rows = prepared.corpus.utterances
    assert [u.id for u in rows[:3]] == ["wav/03a01Aa.0", "wav/03a01Aa.1", "wav/03a01Ea.0"]
    assert prepared.waveforms.shape == (len(rows), RATE) == (2 * 28, RATE)
    assert [u.source for u in rows] == [u.id for u in corpus.utterances for _ in range(2)]
    assert {(u.label, u.speaker, u.gender) for u in rows} == {
        (u.label, u.speaker, u.gender) for u in corpus.utterances
    }
    assert any("56 chunks of 1 s of 28 utterances" in note for note in prepared.corpus.notes)
    for place, utterance in enumerate(corpus.utterances):
        x, _ = soundfile.read(utterance.path, dtype="float32")
        expected = list(chunks_of(x, RATE, RATE, Chunking()))
        for number, chunk in enumerate(expected):
            row = prepared.waveforms[2 * place + number]
            np.testing.assert_allclose(row, chunk.samples, atol=1e-6)


def test_a_second_start_finds_the_chunks(speech, tmp_path, monkeypatch):
    corpus = corpora.load("emodb", speech)
    first = prepare(corpus, settings(), cache_dir=tmp_path / "cache")
    monkeypatch.setattr("jaxser.corpora.waveform_file.chunks_of", None)
    second = prepare(corpus, settings(), cache_dir=tmp_path / "cache")
    assert second.fingerprint == first.fingerprint
    assert second.corpus == first.corpus
    np.testing.assert_array_equal(second.waveforms, first.waveforms)


def test_a_damaged_table_from_before_there_were_digests_is_made_again(speech, tmp_path):
    corpus = corpora.load("emodb", speech)
    first = prepare(corpus, settings(), cache_dir=tmp_path / "cache")
    (first.folder / "chunks.json").write_text("[]")
    (first.folder / DIGESTS).unlink()
    assert prepare(corpus, settings(), cache_dir=tmp_path / "cache").corpus == first.corpus


def test_damaged_files_have_no_chunks(speech, tmp_path):
    (speech / "wav/08a01Wa.wav").write_text("no audio")
    corpus = corpora.load("emodb", speech)
    with pytest.raises(InputError, match="1 of 28 files"):
        prepare(corpus, settings(), cache_dir=tmp_path / "cache")
    prepared = prepare(corpus, settings(), cache_dir=tmp_path / "cache", skip_damaged=True)
    assert len(prepared.waveforms) == len(prepared.corpus.utterances) == 54
    assert "wav/08a01Wa" not in {u.source for u in prepared.corpus.utterances}


def chosen(speech, tmp_path, **config):
    return select(
        CorpusConfig(
            name="emodb",
            root=speech,
            sample_rate=RATE,
            seconds=1.0,
            chunks=True,
            cache_dir=tmp_path / "cache",
            **config,
        )
    )


def test_the_clean_protocol_augments_the_training_part_alone(speech, tmp_path):
    prepared = chosen(speech, tmp_path, augment=True)
    rows = prepared.corpus.utterances
    assert {u.variant for u in rows if u.split == "train"} == {"", *NAMES}
    assert {u.variant for u in rows if u.split == "test"} == {""}
    assert {u.split for u in rows if u.speaker in ("12", "14")} == {"test", None}
    parts = {part: split_rows(prepared.corpus, part) for part in ("train", "test")}
    # Two chunks each; a slower version has one more where it is over 2 s (1.3 / 0.75 = 1.73: no).
    assert len(parts["test"]) == 2 * 14
    assert len(parts["train"]) == 9 * 2 * 14
    assert not any(note.startswith("leaky") for note in prepared.corpus.notes)


def test_the_papers_protocol_splits_augmented_chunks_at_random_and_says_so(
    speech, tmp_path, caplog
):
    with caplog.at_level(logging.WARNING):
        prepared = chosen(speech, tmp_path, augment=True, protocol="paper")
    rows = prepared.corpus.utterances
    counts = [len(split_rows(prepared.corpus, part)) for part in ("train", "val", "test")]
    assert sum(counts) == len(rows) == 9 * 2 * 28
    assert np.allclose(np.array(counts) / len(rows), [0.64, 0.16, 0.20], atol=0.02)
    assert {u.variant for u in rows if u.split == "test"} == {"", *NAMES}
    leaks = " ".join(note for note in prepared.corpus.notes if note.startswith("leaky"))
    assert "statistics are fitted on all parts" in leaks
    assert "28 of 28 utterances have chunks or augmented versions in training and" in leaks
    assert "test speakers in training too" in leaks
    assert "28 of 28 utterances" in caplog.text


def test_augmentation_without_chunks_is_refused(speech, tmp_path):
    with pytest.raises(UsageError, match=r"set corpus\.chunks too"):
        select(CorpusConfig(name="emodb", root=speech, augment=True))


def test_labels_choose_the_classes(speech, tmp_path):
    prepared = chosen(speech, tmp_path, labels=("sadness", "boredom"))
    assert prepared.corpus.labels == ("sadness", "boredom")
    assert {u.label for u in prepared.corpus.utterances} == {"sadness", "boredom"}


@pytest.mark.filterwarnings("ignore:.*is deprecated and slated for removal in Python 3.13")
@pytest.mark.parametrize(
    ("name", "labels", "utterances", "chunks"),
    [
        ("emodb", ("boredom", "disgust", "happiness", "neutral", "sadness"), 339, 339),
        ("emovo", ("disgust", "fear", "happiness", "neutral", "surprise"), 60, 91),
        ("ravdess", ("disgust", "fear", "happiness", "sadness", "surprise"), 123, 125),
    ],
)
def test_real_speech_gives_as_many_chunks_as_the_papers_steps_do(
    name, labels, utterances, chunks, request, tmp_path
):
    """Counts of the copies here (EmoDB's is cut to 2 s); single files by librosa alone."""
    import librosa

    corpus = corpora.load(name, request.getfixturevalue(f"{name}_root"), labels=labels)
    papers = AudioSettings(seconds=3.0, channel="mean", chunking=Chunking())
    prepared = prepare(corpus, papers, cache_dir=tmp_path)
    assert (len(corpus.utterances), len(prepared.waveforms)) == (utterances, chunks)
    found = Counter(u.source for u in prepared.corpus.utterances)
    for utterance in corpus.utterances[:: utterances // 20]:
        x, _ = librosa.load(utterance.path, sr=16_000)
        trimmed, _ = librosa.effects.trim(x, top_db=30, frame_length=512, hop_length=64)
        assert found[utterance.id] == -(-len(trimmed) // 48_000), utterance.id
