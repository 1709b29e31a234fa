"""Generated tables, audio headers and indexes: the right value or one sentence, never more.

What was found once stays as an ``@example``. No input may take more memory than ten times its size,
beside what is taken whatever the input is.
"""

import csv
import io
import json
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jaxser import corpora
from jaxser.corpora import downloading
from jaxser.corpora.file_index import FileIndex, stat_of
from jaxser.corpora.measurement import MeasuredFile
from jaxser.corpora.splits import read_split
from jaxser.corpora.table import Corpus, Utterance, file_of_id
from jaxser.corpora.table_faults import table_faults
from jaxser.runtime.errors import InputError
from jaxser.speech import audio
from jaxser.speech.audio import DamagedAudioError

# The same inputs in every run, so that a failure is one of the change under test.
generated = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files are written here, and none must outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# Taken for any input: the table's module-level caches, a block of samples, a listing.
BESIDE = 4 << 20


def or_one_sentence(work: Callable[[], Any], size: int) -> Any:
    """What ``work`` returns, or None where it raises one short sentence."""
    tracemalloc.start()
    try:
        return work()
    except InputError as error:
        text = str(error)
        assert text.endswith((".", "?"))
        assert len(text) < 2_000
        assert not set("\0\n\r") & set(text)
        text.encode()
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * size + BESIDE


# Tables.

COLUMNS = ["file", "label", "speaker", "gender", "split", "id"]
CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("", " ", ".", "..", "/", "./", "wav/..", "/dev/zero", "/proc/self/mem", "~", "a.wav"),
            *("a.flac", "b\\c.wav", "C:\\x.wav", "\u00fc.wav", "u\u0308.wav", "a\0b", "\ufeff"),
            *('"', '"x', 'x"y', "\r", "\n", "\x1a", "\u2028", "\u202e.wav", "nan", "=1+1", "f"),
            *(
                "male",
                "train",
                "test",
                "x" * 300 + ".wav",
                "y" * 140_000,
                "z" * 9_000,
                "...",
                "a.",
                ".wav",
            ),
        ]
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    header = draw(st.lists(st.sampled_from([*COLUMNS, "x", " label"]), max_size=6))
    header = draw(st.sampled_from([["file", "label"], COLUMNS, header]))
    rows = draw(st.lists(st.lists(CELLS, min_size=1, max_size=7), max_size=6))
    if draw(st.booleans()):
        # As wide as the header, so that more of the reader is reached.
        rows = [(row * len(header))[: len(header)] for row in rows]
    file = io.StringIO(newline="")
    if draw(st.booleans()):
        csv.writer(file).writerows([header, *rows])
    else:
        file.write("\n".join(",".join(row) for row in [header, *rows]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return file.getvalue().encode(encoding, "replace")


@generated
@given(st.one_of(tables(), st.binary(max_size=60)))
@example(b"file,label\n.,x\n/,y\n")
@example(b"file,label\na\0b.wav,x\nb.wav,y\n")
@example(b"file,label\n" + b"x" * 140_000 + b",y\n")
@example(b'file,label\na.wav,"x\nb.wav,y\n')
@example(b"file,label\n" + b"x" * 300 + b".wav,x\n/dev/zero,y\n")
@example(b"file;label\n")
@example(b"")
def test_any_table(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(data)
        corpus = or_one_sentence(lambda: corpora.load("csv", path), len(data))
        or_one_sentence(lambda: read_split(path), len(data))
        if corpus is not None:
            _use(corpus)


def _use(corpus: Corpus) -> None:
    """A table that was read must be of use further on."""
    assert len({u.id for u in corpus.utterances}) == len(corpus.utterances)
    assert all("\n" not in fault for fault in table_faults(corpus.utterances))
    for u in corpus.utterances:
        assert u.label in corpus.labels
        assert ".." not in file_of_id(u.id).parts
        assert not file_of_id(u.id).is_absolute()
        with pytest.raises(DamagedAudioError):
            audio.read_audio(u.path)


# Audio.

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 8, 16, 24, 32, 64, 255, 1024, 8_000, 16_000, 192_000, 0x7FFFFFFF]),
    st.sampled_from([0x7FFFF000, 0x80000000, 0xFFFF, 0xFFFFFFFE, 0xFFFFFFFF]),
    st.integers(0, 0xFFFFFFFF),
)
# PCM, MS ADPCM, float, A-law, µ-law, IMA ADPCM, GSM 6.10, G.721, MPEG layer 3, extensible.
TAGS = st.sampled_from([1, 2, 3, 6, 7, 0x11, 0x31, 0x40, 0x45, 0x55, 0xFFFE, 0])


@st.composite
def wav_files(draw: st.DrawFn) -> bytes:
    order = draw(st.sampled_from(["<", "<", ">"]))

    def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
        return name + struct.pack(f"{order}I", len(body) if size is None else size) + body

    layout = [draw(TAGS), draw(st.sampled_from([1, 1, 2, 0, 8, 1024, 0xFFFF]))]
    layout += [draw(NUMBERS), draw(NUMBERS)]
    layout += [draw(NUMBERS) & 0xFFFF, draw(st.sampled_from([8, 16, 24, 32, 64, 4, 0, 7, 0xFFFF]))]
    fmt = struct.pack(f"{order}HHIIHH", *layout) + draw(st.binary(max_size=30))
    body = draw(st.binary(max_size=64)) * draw(st.sampled_from([1, 1, 64]))
    size = draw(st.one_of(st.none(), st.none(), NUMBERS))
    chunks = [chunk(b"fmt ", fmt), chunk(b"data", body, size)]
    for name in draw(st.lists(st.sampled_from([b"fact", b"LIST", b"ds64", b"smpl", b"cue "]))):
        extra = chunk(name, draw(st.binary(max_size=40)), draw(st.one_of(st.none(), NUMBERS)))
        chunks.insert(draw(st.integers(0, len(chunks))), extra)
    name = {"<": draw(st.sampled_from([b"RIFF", b"RIFF", b"RF64"])), ">": b"RIFX"}[order]
    return name + struct.pack(f"{order}I", draw(NUMBERS)) + b"WAVE" + b"".join(chunks)


def _encoded(name: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    x = 0.3 * np.sin(np.arange(1_000) / 9)
    soundfile.write(file, x, 16_000, format=name, subtype=subtype)
    return file.getvalue()


WHOLE = [
    _encoded("WAV"), _encoded("WAV", "GSM610"), _encoded("WAV", "MS_ADPCM"), _encoded("AIFF"),
    _encoded("AU"), _encoded("RF64"), _encoded("W64"), _encoded("CAF"), _encoded("FLAC"),
    _encoded("OGG"), _encoded("NIST"), _encoded("HTK"),
]  # fmt: skip


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where the numbers stand.
        place = draw(st.integers(0, min(len(data) - 4, 120)))
        if draw(st.booleans()):
            data[place] = draw(st.integers(0, 255))
        else:
            struct.pack_into(draw(st.sampled_from(["<I", ">I"])), data, place, draw(NUMBERS))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def lying_flac() -> bytes:
    data = bytearray(WHOLE[8])
    word = int.from_bytes(data[18:26], "big")
    data[18:26] = (word | (1 << 36) - 1).to_bytes(8, "big")
    return bytes(data)


@generated
@given(st.one_of(wav_files(), damaged_files(), st.binary(max_size=80)))
@example(lying_flac())
@example(WHOLE[1])
# libsndfile seeks to before the beginning.
@example(WHOLE[3].replace(b"SSND", b"\0SND"))
@example(b"")
@example(b".snd")
@example(b"NIST_1A\n")
@example(b"OggS" + bytes(22) + b"\xff")
def test_any_audio(data: bytes) -> None:
    found = or_one_sentence(lambda: audio.decode_audio(data, "a.wav"), len(data))
    if found is not None:
        samples, rate = found
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert len(samples) > 0
        measured = MeasuredFile.of(data, samples, rate)
        assert measured.seconds > 0
        x = audio.resample(audio.to_mono(samples), rate, 16_000)
        assert x.nbytes <= 16 * samples.nbytes + 1_000


# What was kept as JSON.

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), NUMBERS,
        st.sampled_from(["version", "files", "sha256", 1, 2, 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=11),
        st.dictionaries(st.sampled_from(["version", "files", "sha256", "x"]), inner, max_size=3),
    ),
    max_leaves=20,
)  # fmt: skip
TEXTS = st.one_of(
    VALUES.map(json.dumps),
    st.text(max_size=20),
    st.sampled_from(["[" * 100_000, "1" * 5_000, "NaN", "\ud800"]),
)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


@settings(generated, max_examples=40)
@given(TEXTS, st.lists(VALUES, min_size=0, max_size=11), st.integers(0, 9), VALUES)
@example("[]", [], 0, None)
@example('{"version": [1, 2], "files": [1]}', [], 0, None)
@example("[" * 100_000, [], 0, None)
@example("{}", [], 6, 10**400)
@example("{}", [], 9, float("nan"))
def test_any_index_of_files(text: str, entry: list[Any], place: int, value: Any) -> None:
    """An index is of use or is made again; an entry that was tampered with is not believed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "a.wav"
        path.write_bytes(b"x")
        utterance = Utterance("a", path, "x", "s")
        corpus = Corpus("csv", "t", "none", ("x",), folder, (utterance,))
        measured = MeasuredFile("0" * 64, 16_000, 1, 1_600, None, 0, 0.0)
        index = FileIndex.of(folder / "cache", corpus)
        index.store([utterance], [stat_of(path)], [measured])
        assert FileIndex.of(folder / "cache", corpus).look_up(path) == measured
        (file,) = (folder / "cache" / "index").iterdir()
        stored = json.loads(file.read_text())
        whole = stored["files"][str(path)]
        tampered = [*whole[:place], value, *whole[place + 1 :]]
        for content in (
            text,
            json.dumps({**stored, "files": {str(path): entry}}),
            json.dumps({**stored, "files": {str(path): tampered}}),
        ):
            _write(file, content)
            again = FileIndex.of(folder / "cache", corpus)
            found = again.look_up(path)
            if found is not None:
                assert found.seconds >= 0
                found.judged(0.1)
                assert isinstance(found.loudness, str)
            again.store([utterance], [stat_of(path)], [measured])
            assert FileIndex.of(folder / "cache", corpus).look_up(path) == measured


@generated
@given(TEXTS)
@example("[" * 100_000)
@example('{"u": {"sha256": 5}}')
@example('{"version": "a\\nb"}')
def test_any_record_of_a_download(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name) / downloading.RECORD, text)
        record = or_one_sentence(lambda: downloading._record_of(Path(name)), len(text))
        assert record is None or all(len(digest) == 64 for digest in record.values())
        known, version = downloading._version_of(Path(name) / downloading.RECORD)
        assert known or version is None
        assert version is None or version.isprintable()
