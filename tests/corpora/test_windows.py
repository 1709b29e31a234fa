"""Overlapping windows: how many, what is in them, which part they go to, what they cost."""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
import soundfile

from jaxser import corpora
from jaxser.config import CorpusConfig
from jaxser.corpora import AudioSettings, prepare
from jaxser.corpora.chunks import Chunking
from jaxser.corpora.selection import select, split_rows
from jaxser.corpora.windows import Windowing, Windows, window_starts
from jaxser.runtime.errors import InputError, UsageError

RATE = 1_000


@pytest.mark.parametrize("stride_ms", [1, 10, 25, 333])
@pytest.mark.parametrize("length", [500, 15_999, 16_000, 16_001, 16_160, 16_161, 40_000, 99_937])
def test_there_are_as_many_windows_as_equation_1_says(length, stride_ms):
    seconds = Fraction(length, 16_000)
    expected = max(1, math.ceil((seconds - 1) * 1000 / stride_ms))
    starts = window_starts(length, 16_000, 16_000, stride_ms)
    assert len(starts) == expected
    assert starts.tolist() == [16 * stride_ms * i for i in range(expected)]
    if length > 16_000:
        assert starts[-1] + 16_000 <= length


def test_windows_are_rows_of_an_array():
    flat = np.arange(30, dtype=np.float32)
    starts, stops = np.array([0, 2, 4, 10, 24]), np.array([10, 10, 10, 24, 30])
    windows = Windows(flat, starts, stops, 8)
    whole = np.array([*(flat[s : s + 8] for s in (0, 2)), [*flat[4:10], 0, 0], flat[10:18],
                      [*flat[24:], 0, 0]])  # fmt: skip
    assert windows.shape == whole.shape
    assert len(windows) == 5
    for rows in (3, -1, [4, 0], slice(1, 4), np.array([True, False, True, False, True])):
        np.testing.assert_array_equal(windows[rows], whole[rows])
    np.testing.assert_array_equal(np.asarray(windows), whole)
    with pytest.raises(IndexError):
        windows[5]
    # A copy: what a caller does to it does not change the speech.
    windows[0][:] = -1
    assert flat[0] == 0


@pytest.fixture
def speech(tmp_path):
    """Files of 0.6 to 2.2 s by four speakers, and a table of them."""
    folder, rng = tmp_path / "speech", np.random.default_rng(0)
    folder.mkdir()
    lines = ["file,label,speaker"]
    for number in range(40):
        x = 0.5 * rng.uniform(-1, 1, round(RATE * (0.6 + 0.04 * number)))
        soundfile.write(folder / f"{number:02}.wav", x, RATE, subtype="FLOAT")
        lines.append(f"{number:02}.wav,{'ab'[number % 2]},{number // 2 % 4}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def config(speech, tmp_path, **settings):
    return CorpusConfig(
        **{
            "name": "csv",
            "root": speech,
            "cache_dir": tmp_path / "cache",
            "seconds": 1.0,
            "sample_rate": RATE,
            "windows": True,
            "stride_ms": 100,
            "split": "speaker",
            **settings,
        }
    )


def test_every_window_is_a_row_and_one_copy_of_the_speech_is_kept(speech, tmp_path):
    prepared = select(config(speech, tmp_path))
    rows = [u for u in prepared.corpus.utterances if u.source == "39"]
    assert [u.id for u in rows] == [f"39.{i}" for i in range(12)]  # ceil((2160 - 1000) / 100)
    recorded, _ = soundfile.read(speech / "39.wav", dtype="float32")
    first = prepared.corpus.utterances.index(rows[0])
    np.testing.assert_array_equal(prepared.waveforms[first + 3], recorded[300:1300])
    short, _ = soundfile.read(speech / "00.wav", dtype="float32")
    np.testing.assert_array_equal(prepared.waveforms[0], [*short, *np.zeros(400)])
    assert any("windows of 1 s, one every 100 ms" in note for note in prepared.corpus.notes)
    # All of it, and no window twice: the same file serves every stride.
    total = sum(len(soundfile.read(path)[0]) for path in speech.glob("*.wav"))
    assert prepared.waveforms.nbytes == 4 * total
    finer = select(config(speech, tmp_path, stride_ms=10))
    assert finer.folder == prepared.folder
    assert len(finer.waveforms) > 8 * len(prepared.waveforms)


@pytest.mark.parametrize("split", ["file", "speaker", "window"])
def test_windows_of_a_file_stay_together_unless_windows_are_split(speech, tmp_path, split):
    prepared = select(config(speech, tmp_path, split=split))
    parts = defaultdict(set)
    for u in prepared.corpus.utterances:
        parts[u.source].add(u.split)
    together = max(map(len, parts.values())) == 1
    assert together == (split != "window")
    told = [note for note in prepared.corpus.notes if "same speech is on both sides" in note]
    assert bool(told) == (split == "window")
    if split == "file":
        counts = [sum(p == {part} for p in parts.values()) for part in ("train", "test")]
        assert counts == [32, 8]
        assert any("test speakers in training" in note for note in prepared.corpus.notes)
    assert len(split_rows(prepared.corpus, "test"))


def test_a_split_file_names_windows_or_whole_files(speech, tmp_path):
    table = tmp_path / "split.csv"
    lines = [f"{number:02},{'test' if number >= 32 else 'train'}" for number in range(40)]
    table.write_text("\n".join(["id,split", *lines]) + "\n")
    corpus = select(config(speech, tmp_path, split="csv", split_file=table)).corpus
    assert {u.source for u in corpus.utterances if u.split == "test"} == {
        f"{number}" for number in range(32, 40)
    }


def test_a_damaged_cache_of_windows_is_named(speech, tmp_path):
    folder = select(config(speech, tmp_path)).folder
    file = folder / "waveforms.npy"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    # Looked at once in a process; another process is a copy elsewhere.
    folder.rename(tmp_path / "moved")
    (tmp_path / "other" / "prepared").mkdir(parents=True)
    (tmp_path / "moved").rename(tmp_path / "other" / "prepared" / folder.name)
    with pytest.raises(InputError, match="delete that folder"):
        select(config(speech, tmp_path, cache_dir=tmp_path / "other"))


def test_settings_that_do_not_go_together_are_refused(speech, tmp_path):
    with pytest.raises(InputError, match="stride_ms 0"):
        Windowing(0)
    with pytest.raises(InputError, match="chunks or into windows"):
        AudioSettings(chunking=Chunking(), windowing=Windowing())
    one = tmp_path / "one"
    one.mkdir()
    lines = ["file,label,speaker"]
    for number in range(4):
        soundfile.write(one / f"{number}.wav", 0.1 * np.ones(RATE), RATE)
        lines.append(f"{number}.wav,{'ab'[number % 2]},me")
    (one / "table.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises((InputError, UsageError), match="needs two speakers"):
        select(config(one, tmp_path))


def test_real_speech_has_as_many_windows_as_equation_1_says(emodb_root):
    corpus = corpora.load("emodb", emodb_root)
    prepared = prepare(corpus, AudioSettings(seconds=1.0, windowing=Windowing(10)), progress=False)
    infos = [soundfile.info(u.path) for u in corpus.utterances]
    lengths = [math.ceil(info.frames * 16_000 / info.samplerate) for info in infos]
    assert len(prepared.waveforms) == sum(max(1, math.ceil((n - 16_000) / 160)) for n in lengths)
    assert prepared.waveforms.nbytes == 4 * sum(lengths)
