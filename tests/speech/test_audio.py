"""Decoding, damage, resampling, lengths and writing."""

import io
import struct

import numpy as np
import pytest
import soundfile

from jaxser.speech import audio
from jaxser.speech.audio import DamagedAudioError


def wav_bytes(x: np.ndarray, subtype: str = "PCM_16", **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x, 16_000, subtype=subtype, format=options.get("format", "WAV"))
    return file.getvalue()


def sine(frames: int = 1600, frequency: float = 440.0, sample_rate: int = 16_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(frames) / sample_rate)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24),
     ("FLOAT", 2**-24), ("DOUBLE", 2**-24)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sample_width_is_scaled_alike(tmp_path, subtype, step, channels):
    x = np.stack([sine(frequency=440 * (1 + c)) for c in range(channels)], axis=1)
    (tmp_path / "x.wav").write_bytes(wav_bytes(x, subtype))
    samples, sample_rate = audio.read_audio(tmp_path / "x.wav")
    assert (samples.shape, samples.dtype, sample_rate) == ((1600, channels), np.float32, 16_000)
    np.testing.assert_allclose(samples, x, atol=step)


def test_16_bit_samples_are_exact(tmp_path):
    # The header is written by hand: the oracle is the format's definition, not the library.
    values = np.array([-32768, -1, 0, 1, 16384, 32767], "<i2")
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    chunks += b"data" + struct.pack("<I", values.nbytes) + values.tobytes()
    (tmp_path / "x.wav").write_bytes(
        b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    )
    samples, sample_rate = audio.read_audio(tmp_path / "x.wav")
    assert sample_rate == 8000
    np.testing.assert_array_equal(samples[:, 0], values.astype(np.float32) / 32768)


def test_data_of_unknown_length_is_read(tmp_path):
    # Writers to a pipe cannot go back to fill the length in.
    data = bytearray(wav_bytes(sine()))
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff" * 4
    (tmp_path / "x.wav").write_bytes(data)
    assert len(audio.read_audio(tmp_path / "x.wav")[0]) == 1600


def test_chunks_before_and_after_the_data_are_no_damage(tmp_path):
    data = wav_bytes(sine())
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    position = data.index(b"data")
    (tmp_path / "x.wav").write_bytes(data[:position] + extra + data[position:] + extra)
    assert len(audio.read_audio(tmp_path / "x.wav")[0]) == 1600


NAN = sine().astype(np.float32)
NAN[7] = np.nan
INF = sine().astype(np.float32)
INF[[3, 5]] = np.inf

DAMAGED = {
    "empty": (b"", "empty", "the file is empty"),
    "no samples": (wav_bytes(np.zeros(0)), "empty", "it holds no samples"),
    "text": (b"This is text, not sound.\n" * 40, "damaged", "cannot be decoded as audio"),
    "short header": (wav_bytes(sine())[:20], "damaged", "cannot be decoded as audio"),
    "header alone": (wav_bytes(sine())[:44], "damaged", "promises 3,200 bytes more"),
    "cut in half": (wav_bytes(sine())[:1644], "damaged", "promises 1,600 bytes more"),
    "one byte missing": (wav_bytes(sine())[:-1], "damaged", "promises 1 bytes more"),
    "cut FLAC": (wav_bytes(sine(), format="FLAC")[:600], "damaged", ""),
    "NaN": (wav_bytes(NAN, "FLOAT"), "non-finite", "1 sample is not finite"),
    "infinite": (wav_bytes(INF, "DOUBLE"), "non-finite", "2 samples are not finite"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named(tmp_path, case):
    data, kind, reason = DAMAGED[case]
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    with pytest.raises(DamagedAudioError) as caught:
        audio.read_audio(path)
    assert caught.value.kind == kind
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"{path} is damaged: ")
    assert str(caught.value).endswith(".")
    assert str(caught.value).count("\n") == 0


def test_a_missing_file_and_a_folder_are_damage_too(tmp_path):
    with pytest.raises(DamagedAudioError, match="no such file") as caught:
        audio.read_audio(tmp_path / "absent.wav")
    assert str(caught.value) == f"{tmp_path / 'absent.wav'}: there is no such file."
    with pytest.raises(DamagedAudioError, match="it is a folder"):
        audio.read_audio(tmp_path)


def test_to_mono_takes_the_left_channel_or_the_mean():
    samples = np.array([[1.0, 0.0], [0.5, -0.5]], np.float32)
    np.testing.assert_array_equal(audio.to_mono(samples), [1.0, 0.5])
    np.testing.assert_array_equal(audio.to_mono(samples, "mean"), [0.5, 0.0])
    with pytest.raises(ValueError, match="'left' or 'mean'"):
        audio.to_mono(samples, "right")


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone(sample_rate):
    # The oracle is the same tone sampled at the new rate.
    x = sine(sample_rate, 1000.0, sample_rate).astype(np.float32)
    y = audio.resample(x, sample_rate, 16_000)
    assert (y.shape, y.dtype) == ((16_000,), np.float32)
    expected = sine(16_000, 1000.0)
    np.testing.assert_allclose(y[1000:-1000], expected[1000:-1000], atol=1e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    x = sine(48_000, 12_000.0, 48_000).astype(np.float32)
    assert np.abs(audio.resample(x, 48_000, 16_000)[1000:-1000]).max() < 1e-4


def test_the_same_rate_changes_nothing():
    x = sine().astype(np.float32)
    assert audio.resample(x, 16_000, 16_000) is x


def test_unify_length_repeats_then_cuts():
    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(audio.unify_length(x, 8), [1, 2, 3, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(audio.unify_length(x, 8, "pad"), [1, 2, 3, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(audio.unify_length(x, 2), [1, 2])
    np.testing.assert_array_equal(audio.unify_length(x, 3), x)
    assert audio.unify_length(x, 8).dtype == np.float32
    with pytest.raises(ValueError, match="without samples"):
        audio.unify_length(x[:0], 8)
    with pytest.raises(ValueError, match="'repeat' or 'pad'"):
        audio.unify_length(x, 8, "mirror")


def test_written_floats_come_back_exactly(tmp_path):
    x = sine().astype(np.float32)
    x[5] += np.float32(3e-9)  # a δ that 16 bits would lose
    audio.write_wav(tmp_path / "deep" / "x.wav", x, 16_000)
    samples, sample_rate = audio.read_audio(tmp_path / "deep" / "x.wav")
    assert sample_rate == 16_000
    np.testing.assert_array_equal(samples[:, 0], x)


def test_stereo_and_16_bits_can_be_written(tmp_path):
    x = np.stack([sine(), -sine()], axis=1)
    audio.write_wav(tmp_path / "x.wav", x, 22_050, subtype="PCM_16")
    samples, sample_rate = audio.read_audio(tmp_path / "x.wav")
    assert sample_rate == 22_050
    np.testing.assert_allclose(samples, x, atol=2**-15)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    audio.write_wav(tmp_path / "x.wav", np.zeros(10, np.float32), 16_000)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        audio.write_wav(tmp_path / "x.wav", np.ones(10, np.float32), 16_000)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    assert not audio.read_audio(tmp_path / "x.wav")[0].any()
