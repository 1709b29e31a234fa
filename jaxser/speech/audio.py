"""Decode, resample and unify the length of speech; write it back.

    samples, rate = jaxser.speech.audio.read_audio("03a01Fa.wav")      # [frames, channels]
    x = resample(to_mono(samples), rate, 16_000)
    x = unify_length(x, 32_000)                                 # repeats, then cuts
    jaxser.speech.audio.write_wav("adversarial.wav", x, 16_000)

Decoding is libsndfile's, resampling soxr's HQ. Repeating the signal to the common length is what
STAA-Net does (section IV-A).
"""

import io
import shlex
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import atomic_file
from jaxser.runtime.regular_files import UnreadableFileError, read_regular
from jaxser.runtime.text import counted
from jaxser.speech.containers import FORMATS, missing_part, other_format

__all__ = [
    "Channel",
    "DamageKind",
    "DamagedAudioError",
    "LengthMode",
    "decode_audio",
    "encode_wav",
    "read_audio",
    "read_bytes",
    "resample",
    "to_mono",
    "unify_length",
    "write_wav",
]

Channel = Literal["left", "mean"]
LengthMode = Literal["repeat", "pad"]
DamageKind = Literal["damaged", "empty", "non-finite", "short"]

# In Hz. Below, a header is wrong, and resampling would make gigabytes of a few bytes.
_LOWEST_RATE = 1_000

# Samples that are read at a time: so many, or what the file holds unless it is compressed.
_BLOCK_SAMPLES = 1 << 18
_SAMPLES_PER_BYTE = 2


class DamagedAudioError(InputError):
    """An audio file that cannot be used.

    Attributes:
      path: the file.
      reason: half a sentence.
      kind: "damaged", "empty" (no bytes or no samples), "non-finite" or "short" (too short to be
        an utterance).

    Args:
      message: of a file that is not there or may not be read, which need not be damaged.
    """

    def __init__(
        self,
        path: Path | str,
        reason: str,
        kind: DamageKind = "damaged",
        message: str | None = None,
    ) -> None:
        super().__init__(message or f"{path} is damaged: {reason}.")
        self.path = Path(path)
        self.reason = reason
        self.kind: DamageKind = kind


def read_audio(path: Path | str) -> tuple[Float[np.ndarray, "frames channels"], int]:
    """Decode an audio file of any format, sample width and channel count that libsndfile reads.

    Returns:
      Samples (float32; integer formats are scaled to [-1, 1), float formats are as stored) and
      the sample rate in Hz.

    Raises:
      DamagedAudioError: the file is missing, empty, not audio or shorter than its header
        promises, or holds no sample or one that is not finite.
    """
    return decode_audio(read_bytes(path), path)


def read_bytes(path: Path | str) -> bytes:
    """Content of an audio file.

    Raises:
      DamagedAudioError: it is missing, no regular file, or may not be read.
      OSError: this process has no memory or too many open files.
    """
    try:
        return read_regular(path)
    except UnreadableFileError as error:
        raise DamagedAudioError(error.path, error.reason, message=str(error)) from error


def decode_audio(data: bytes, path: Path | str) -> tuple[Float[np.ndarray, "frames channels"], int]:
    """:func:`read_audio` of a file's bytes; ``path`` is for messages."""
    import soundfile

    if not data:
        raise DamagedAudioError(path, "the file is empty", "empty")
    if (name := other_format(data)) is not None:
        raise DamagedAudioError(path, _to_convert(name, path))
    # libsndfile quietly decodes what is left of a shortened file.
    if (missing := missing_part(data)) is not None:
        raise DamagedAudioError(path, missing)
    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            if file.format not in FORMATS:
                raise DamagedAudioError(path, _to_convert(f"a file of format {file.format}", path))
            frames, sample_rate = file.frames, file.samplerate
            samples = _read_blocks(file, len(data))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".").removeprefix("Error : ")
        raise DamagedAudioError(path, f"it cannot be decoded as audio ({reason})") from error
    if len(samples) < frames and not _is_flac_of_unknown_length(data):
        raise DamagedAudioError(path, f"only {len(samples):,} of {frames:,} samples are there")
    if not len(samples):
        raise DamagedAudioError(path, "it holds no samples", "empty")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).sum())
        raise DamagedAudioError(
            path, f"{counted(bad, 'sample')} {'is' if bad == 1 else 'are'} not finite", "non-finite"
        )
    if sample_rate < _LOWEST_RATE:
        raise DamagedAudioError(
            path, f"its header says {sample_rate:,} Hz, too low a rate for speech"
        )
    return samples, sample_rate


def _to_convert(what: str, path: Path | str) -> str:
    name = Path(path).name
    command = shlex.join(["ffmpeg", "-i", name, f"{Path(name).stem}.wav"])
    return f"it is {what}, which is not read here; convert it, for instance by {command}"


class _Bytes(io.BytesIO):
    """Bytes that stay where they are when libsndfile seeks to before their beginning.

    It does where a header is wrong, and an exception could only be printed from there.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _read_blocks(file: Any, size: int) -> np.ndarray:
    """All samples of an open file, in memory that the file of ``size`` bytes accounts for.

    A header may promise 64 GiB; what is asked for at a time is what could be there.
    """
    # Between blocks soundfile seeks to where it is already: FLAC of unknown length fails there,
    # MP3 goes on with other samples, and GSM 6.10 cannot be sought in at all.
    file.seekable = lambda: False
    length = max(_BLOCK_SAMPLES, round(_SAMPLES_PER_BYTE * size)) // file.channels + 1
    blocks, left = [], file.frames
    while left > 0:
        asked = min(length, left)
        block = file.read(asked, dtype="float32", always_2d=True)
        blocks.append(block)
        left -= len(block)
        if len(block) < asked:
            break
    if not blocks:
        return np.zeros((0, file.channels), np.float32)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _is_flac_of_unknown_length(data: bytes) -> bool:
    """Written to a pipe: the 36 bits of the number of samples are zero."""
    return data[:4] == b"fLaC" and not int.from_bytes(data[21:26], "big") & (1 << 36) - 1


def to_mono(
    samples: Float[np.ndarray, "frames channels"], channel: Channel = "left"
) -> Float[np.ndarray, " frames"]:
    """One channel of the recording: the first, or the mean of all.

    The first is the default because the mean of two spaced microphones (EMOVO) comb-filters.
    """
    if channel == "left":
        return samples[:, 0]
    if channel == "mean":
        return samples.mean(axis=1, dtype=np.float32)
    raise ValueError(f"channel must be 'left' or 'mean', not {channel!r}")


def resample(
    x: Float[np.ndarray, " samples"], sample_rate: int, new_sample_rate: int
) -> Float[np.ndarray, " new_samples"]:
    """``x`` at another sample rate (Hz), by soxr at its HQ setting."""
    import soxr

    if sample_rate == new_sample_rate:
        return x
    return soxr.resample(np.ascontiguousarray(x), sample_rate, new_sample_rate, quality="HQ")


def unify_length(
    x: Float[np.ndarray, " samples"], num_samples: int, mode: LengthMode = "repeat"
) -> Float[np.ndarray, " num_samples"]:
    """Cut ``x`` to ``num_samples``, or lengthen it by repeating it whole or by zeros at its end.

    Raises:
      ValueError: ``x`` has no samples, or the mode is unknown.
    """
    if not len(x):
        raise ValueError("a signal without samples cannot be lengthened")
    if mode not in ("repeat", "pad"):
        raise ValueError(f"mode must be 'repeat' or 'pad', not {mode!r}")
    if len(x) >= num_samples:
        return x[:num_samples]
    if mode == "pad":
        return np.pad(x, (0, num_samples - len(x)))
    return np.resize(x, num_samples)


def write_wav(
    path: Path | str,
    x: Float[np.ndarray, " frames *channels"],
    sample_rate: int,
    subtype: str = "FLOAT",
) -> None:
    """Write a WAV file that appears under its name only when whole.

    Args:
      path: the file; missing folders are made.
      x: samples in [-1, 1].
      sample_rate: in Hz.
      subtype: "FLOAT" (32 bits) by default, since 16 bits would round a small δ away.
    """
    # Encoded in memory, so that a full disk is an OSError of ours and not lost in a callback.
    encoded = encode_wav(x, sample_rate, subtype)
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded)


def encode_wav(x: Float[np.ndarray, " frames *channels"], sample_rate: int, subtype: str) -> bytes:
    """Content of a WAV file, as :func:`write_wav` writes it."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, x, sample_rate, subtype=subtype, format="WAV")
    return encoded.getvalue()
