"""Utterances trimmed, cut into chunks of one length, and augmented, as one paper prepared them.

    chunking = Chunking(augment=True)
    for chunk in chunks_of(x, 16_000, 48_000, chunking):
        chunk.name, chunk.samples                    # "0", "1", "0.pitch-3", "0.stretch0.75", ...

Source: Facchinetti et al., "A Systematic Evaluation of Adversarial Attacks against Speech Emotion
Recognition Models", 2024, section 2.2. Trimming, pitch and speed are librosa's.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from jaxser.runtime.errors import InputError
from jaxser.speech.audio import unify_length

__all__ = ["PITCH_STEPS", "SPEEDS", "Chunk", "Chunking", "chunks_of", "trim_silence", "variants"]

# Semitones, and factors of speed.
PITCH_STEPS = (-3.0, -1.5, 1.5, 3.0)
SPEEDS = (0.75, 0.9, 1.1, 1.25)


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How utterances are trimmed and whether they are augmented; the paper's settings.

    Attributes:
      top_db: frames this far under the loudest one are silence, in dB.
      frame_length, hop_length: of the frames, in samples.
      augment: add eight versions of every utterance: :data:`PITCH_STEPS` and :data:`SPEEDS`.
    """

    top_db: float = 30.0
    frame_length: int = 512
    hop_length: int = 64
    augment: bool = False

    def __post_init__(self) -> None:
        if self.top_db <= 0 or self.frame_length < 1 or self.hop_length < 1:
            raise InputError("top_db, frame_length and hop_length must be positive.")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One chunk of one version of an utterance.

    Attributes:
      number: of the chunk, from 0.
      variant: "" for the utterance itself, else what was done to it ("pitch-1.5", "stretch0.9").
      samples: as many as were asked for.
    """

    number: int
    variant: str
    samples: Float[np.ndarray, " samples"]

    @property
    def name(self) -> str:
        """Ending of the chunk's id."""
        return f"{self.number}.{self.variant}" if self.variant else str(self.number)


def trim_silence(
    x: Float[np.ndarray, " samples"], chunking: Chunking
) -> Float[np.ndarray, " fewer"]:
    """``x`` without the silence at both ends; all of it where nothing stands out."""
    from librosa.effects import trim

    trimmed, _ = trim(
        x,
        top_db=chunking.top_db,
        frame_length=chunking.frame_length,
        hop_length=chunking.hop_length,
    )
    return trimmed if len(trimmed) else x


def variants(
    x: Float[np.ndarray, " samples"], sample_rate: int
) -> Iterator[tuple[str, Float[np.ndarray, " other"]]]:
    """(name, samples) of the eight augmented versions: pitch keeps the length, speed changes it."""
    from librosa.effects import pitch_shift, time_stretch

    for steps in PITCH_STEPS:
        yield f"pitch{steps:+g}", pitch_shift(x, sr=sample_rate, n_steps=steps)
    for rate in SPEEDS:
        yield f"stretch{rate:g}", time_stretch(x, rate=rate)


def chunks_of(
    x: Float[np.ndarray, " samples"], sample_rate: int, length: int, chunking: Chunking
) -> Iterator[Chunk]:
    """The chunks of an utterance, and of its augmented versions where they are asked for.

    Silence is trimmed first; what is left is augmented and cut into pieces of ``length``, and every
    piece is trimmed again and repeated to that length.

    Args:
      x: mono samples.
      sample_rate: in Hz.
      length: of a chunk in samples.
      chunking: settings.
    """
    x = trim_silence(x, chunking)
    versions = [("", x), *(variants(x, sample_rate) if chunking.augment else ())]
    for variant, samples in versions:
        for number, start in enumerate(range(0, len(samples), length)):
            piece = trim_silence(samples[start : start + length], chunking)
            yield Chunk(number, variant, np.asarray(unify_length(piece, length), np.float32))
