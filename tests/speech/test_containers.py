"""What a container promises and what is there: cut, piped, lying and foreign files."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from jaxser.speech import audio
from jaxser.speech.audio import DamagedAudioError, decode_audio
from jaxser.speech.containers import FORMATS, missing_part

RNG = np.random.default_rng(0)
SPEECH = 0.3 * np.sin(np.arange(8_000) / 20) + 0.01 * RNG.standard_normal(8_000)
# SD2 lies in two files, one of them written beside the working folder's files; RAW has no header.
READABLE = sorted(set(soundfile.available_formats()) - {"SD2", "RAW"})


def encoded(name: str, subtype: str | None = None, x: np.ndarray = SPEECH) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x, 16_000, format=name, subtype=subtype)
    return file.getvalue()


VARIANTS = [
    *((name, None) for name in READABLE),
    ("OGG", "OPUS"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "PCM_24"), ("AIFF", "FLOAT"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "subtype"), VARIANTS)
def test_no_format_is_decoded_short_in_silence(name, subtype):
    """A format that libsndfile learns to read comes here by itself."""
    data = encoded(name, subtype)
    if name not in FORMATS:
        with pytest.raises(DamagedAudioError, match=f"format {name}, which is not read.*ffmpeg"):
            decode_audio(data, "a b.x")
        return
    whole, rate = decode_audio(data, "a.x")
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        expected = file.read(file.frames, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(whole, expected)
    assert rate == 16_000
    # The last byte may be padding, so what is cut is more.
    for cut in [*range(1, len(data) - 8, len(data) // 17), len(data) - 8]:
        with pytest.raises(DamagedAudioError) as caught:
            decode_audio(data[:cut], "a.x")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_read_does_not_depend_on_the_block(name, monkeypatch):
    data = encoded(name, x=np.tile(SPEECH, 4))
    whole, _ = decode_audio(data, "a.x")
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 1)
    monkeypatch.setattr(audio, "_SAMPLES_PER_BYTE", 0.01)
    np.testing.assert_array_equal(decode_audio(data, "a.x")[0], whole)


def wav(size: int, riff: bytes = b"RIFF") -> bytes:
    x = (SPEECH * 32767).astype("<i2").tobytes()
    head = riff + struct.pack("<I", (size + 36) & 0xFFFFFFFF) + b"WAVE"
    head += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    return head + b"data" + struct.pack("<I", size) + x


def aiff(size: int) -> bytes:
    data = bytearray(encoded("AIFF"))
    struct.pack_into(">I", data, data.index(b"SSND") + 4, size)
    return bytes(data)


def au(size: int) -> bytes:
    data = bytearray(encoded("AU"))
    struct.pack_into(">I", data, 8, size)
    return bytes(data)


def flac(samples: int) -> bytes:
    data = bytearray(encoded("FLAC"))
    word = int.from_bytes(data[18:26], "big")
    data[18:26] = (word >> 36 << 36 | samples).to_bytes(8, "big")
    return bytes(data)


# sox takes whole blocks off its length: three bytes for a sample of 24 bits.
PIPED = {
    "ffmpeg's WAV": wav(0xFFFFFFFF),
    "sox's WAV": wav(0x7FFFF000),
    "sox's WAV of 3-byte blocks": wav(0x7FFFF000 - 0x7FFFF000 % 3),
    "WAV of 2 GiB": wav(0x80000000),
    "sox's AIFF": aiff(0x7F000000),
    "AU": au(0xFFFFFFFF),
    "FLAC": flac(0),
}


@pytest.mark.parametrize("writer", PIPED)
def test_files_from_a_pipe_are_whole(writer):
    assert len(decode_audio(PIPED[writer], "a")[0]) == len(SPEECH)


@pytest.mark.parametrize(
    "data", [wav(2 * 8_000 + 2), wav(0x70000000), aiff(0x70000000), au(20_000), flac(8_001)]
)
def test_other_lengths_are_promises(data):
    with pytest.raises(DamagedAudioError, match=r"promises|only 8,000 of"):
        decode_audio(data, "a")


def test_rf64_keeps_its_length_apart():
    data = bytearray(encoded("RF64"))
    at = data.index(b"ds64") + 16
    assert struct.unpack_from("<Q", data, at) == (16_000,)
    struct.pack_into("<Q", data, at, 16_002)
    with pytest.raises(DamagedAudioError, match="promises 2 bytes more"):
        decode_audio(bytes(data), "a")


def pages(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


def test_ogg_pages_are_checked():
    data = encoded("OGG", x=np.tile(SPEECH, 8))
    parts = pages(data)
    assert len(parts) > 4
    for found, wanted in (
        (parts[:-1], "its end is missing"),
        (parts[:3] + parts[4:], "pages before its page 4 are missing"),
        ([*parts[:3], parts[3][:-1] + bytes([parts[3][-1] ^ 1]), *parts[4:]], "page 3 .*checksum"),
        ([*parts[:-1], parts[-1][:20]], "its last page is cut"),
    ):
        with pytest.raises(DamagedAudioError, match=wanted):
            decode_audio(b"".join(found), "a.ogg")


def test_a_header_that_asks_for_64_gib_takes_no_memory():
    import tracemalloc

    data = flac(2**36 - 1)
    tracemalloc.start()
    with pytest.raises(DamagedAudioError, match="only 8,000 of 68,719,476,735 samples"):
        decode_audio(data, "a.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(data) + 8 * audio._BLOCK_SAMPLES


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "MP4 or M4A"), (b"\0\0\0\x18ftypisom", "MP4 or M4A"),
        (b"\x1a\x45\xdf\xa3", "WebM"), (b"#!AMR\n", "AMR"), (b"\xff\xf1", "AAC"),
        (b"wvpk", "WavPack"), (b"RIFF\0\0\0\0AVI ", "AVI"),
    ],
)  # fmt: skip
def test_what_ffmpeg_reads_says_how_to_convert(start, name):
    with pytest.raises(DamagedAudioError, match=rf"{name}.*ffmpeg -i 'a b\.m4a' 'a b\.wav'"):
        decode_audio(start + bytes(100), "speech/a b.m4a")


def test_a_rate_that_no_speech_has_is_damage():
    data = bytearray(wav(2 * len(SPEECH)))
    struct.pack_into("<I", data, 24, 1)
    with pytest.raises(DamagedAudioError, match="its header says 1 Hz"):
        decode_audio(bytes(data), "a.wav")


def no_file(kind, folder):
    path = folder / "x.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "broken link":
        path.symlink_to(folder / "absent")
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "NUL":
        return "a\0b.wav"
    elif kind == "long name":
        return folder / ("x" * 300)
    elif kind == "under a file":
        path.write_bytes(b"x")
        return path / "y.wav"
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "it is a pipe or a device"), ("device", "it is a pipe or a device"),
        ("folder", "it is a folder"), ("loop", "cannot be read"), ("NUL", "NUL character"),
        ("broken link", "no such file"), ("long name", "cannot be read"),
        ("under a file", "cannot be read"),
    ],
)  # fmt: skip
def test_only_regular_files_are_read(tmp_path, kind, reason):
    with pytest.raises(DamagedAudioError, match=reason) as caught:
        audio.read_audio(no_file(kind, tmp_path))
    assert "\0" not in str(caught.value)


def test_too_many_open_files_is_not_the_files_fault(tmp_path, monkeypatch):
    """Else --skip_damaged would leave sound files out."""

    def full(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="Too many"):
        audio.read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_count_of_its_frames(rate, channels):
    """Cuts are told but those between frames; Xing's header says how many frames there are."""
    tone = 0.3 * np.sin(np.arange(rate // 2) / 20)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * channels, 1), rate, format="MP3")
    data = file.getvalue()
    place = data.find(b"Xing") if b"Xing" in data else data.find(b"Info")
    frames = int.from_bytes(data[place + 8 : place + 12], "big")
    second = data.find(data[:2], 4)  # the header's first bytes are the same in all frames
    bare = data[second:]
    assert soundfile.read(io.BytesIO(bare))[0].size  # without its count, and still an MP3
    for whole in (data, bare, bare + b"TAG" + bytes(125), b"ID3\4\0\0\0\0\1\0" + bytes(128) + bare):
        assert missing_part(whole) is None
    untold = [end for end in range(len(bare) + 1) if missing_part(bare[:end]) is None]
    # Of fewer than two frames nothing is said.
    beginning = next(end for end in untold if end + 1 not in untold)
    assert sum(end > beginning for end in untold) == frames - 1
    with pytest.raises(DamagedAudioError, match="its last frame is cut"):
        decode_audio(bare[:-5], "a.mp3")
