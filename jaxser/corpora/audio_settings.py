"""What every utterance of a corpus is turned into, and the fingerprint of what comes out.

settings = AudioSettings(sample_rate=16_000, seconds=2.0)
audio_fingerprint(utterances, measured, settings)                # 64 hexadecimal digits
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, get_args

from jaxser.corpora.chunks import Chunking
from jaxser.corpora.measurement import MeasuredFile
from jaxser.corpora.table import Utterance
from jaxser.corpora.windows import Windowing
from jaxser.runtime.errors import InputError
from jaxser.speech.audio import Channel, LengthMode

__all__ = ["SHORTEST", "VERSION", "AudioSettings", "audio_fingerprint", "plain_settings"]

# Raise it with any change that alters a sample: it is part of every fingerprint, so that what an
# older version prepared is not found.
VERSION = 1

# In seconds: every utterance is made as long as is asked for, in memory.
SHORTEST = 0.1
_LONGEST = 600.0

# In Hz, beyond all that microphones and files of speech have.
_HIGHEST = 768_000


@dataclasses.dataclass(frozen=True)
class AudioSettings:
    """What every utterance is turned into.

    Attributes:
      sample_rate: in Hz.
      seconds: length of every waveform.
      channel: "left", or "mean" of all channels.
      length: how shorter utterances are lengthened: "repeat" them, or "pad" with zeros.
      shortest: files that last less, in seconds, are damaged: repeated to a whole waveform, a
        handful of samples is a constant and no speech.
      chunking: trim every utterance and cut it into waveforms of this length, each of them an
        utterance of its own; None: one waveform per utterance, cut at its end.
      windowing: cut every utterance into overlapping windows of this length, each of them an
        utterance of its own; those that are shorter are filled up with zeros.

    Examples:
      >>> import jaxser
      >>> jaxser.corpora.AudioSettings(sample_rate=16_000, seconds=2.0).num_samples
      32000
    """

    sample_rate: int = 16_000
    seconds: float = 2.0
    channel: Channel = "left"
    length: LengthMode = "repeat"
    chunking: Chunking | None = None
    shortest: float = SHORTEST
    windowing: Windowing | None = None

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or not math.isfinite(self.seconds) or self.num_samples < 1:
            raise InputError(
                f"{self.seconds} s at {self.sample_rate} Hz is no length for a waveform; "
                "both must be positive."
            )
        if self.seconds > _LONGEST or self.sample_rate > _HIGHEST:
            raise InputError(
                f"{self.seconds:g} s at {self.sample_rate:,} Hz is more than any utterance has; "
                f"give up to {_LONGEST:g} s and {_HIGHEST:,} Hz."
            )
        if not 0 <= self.shortest < math.inf:
            raise InputError(f"shortest {self.shortest} s is no length; give 0 or more seconds.")
        if self.chunking is not None and self.windowing is not None:
            raise InputError("speech is cut into chunks or into windows, not both; take one.")
        for name, valid in (("channel", get_args(Channel)), ("length", get_args(LengthMode))):
            if getattr(self, name) not in valid:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(valid)}."
                )

    @property
    def num_samples(self) -> int:
        """Samples per waveform."""
        return round(self.seconds * self.sample_rate)


def audio_fingerprint(
    utterances: Sequence[Utterance], measured: Sequence[MeasuredFile], settings: AudioSettings
) -> str:
    """SHA-256 of all that the prepared samples depend on.

    Neither paths nor times are among it: a corpus that was moved or copied is the same corpus.

    Args:
      utterances: in the order of the waveforms.
      measured: what their files hold.
      settings: what they are turned into.
    """
    description = {
        "version": VERSION,
        "settings": plain_settings(settings),
        "files": [[u.id, m.sha256] for u, m in zip(utterances, measured, strict=True)],
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def plain_settings(settings: AudioSettings) -> dict[str, Any]:
    """The settings as plain values; what is not used is left out.

    So a setting that is added later, and is None by default, leaves the fingerprints as they are.
    The shortest length changes no sample; what it leaves out is not among the files. Windows are
    cut when they are read, so that one copy of the speech serves every stride and length.
    """
    plain = dataclasses.asdict(settings)
    plain = {k: v for k, v in plain.items() if v is not None and k != "shortest"}
    if settings.windowing is None:
        return plain
    return {k: plain[k] for k in ("sample_rate", "channel")} | {"whole": True}
