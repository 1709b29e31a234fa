"""The section ``features``: the spectrogram that a victim reads."""

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.ranges import NotNegative, Positive

__all__ = ["FeaturesConfig"]


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """The spectrogram that a victim reads, if it reads one; the settings are librosa's."""

    kind: Annotated[
        Literal["waveform", "linear", "mel", "log_mel", "mfcc", "cqt"],
        Field(description="waveform: the victim has no front end"),
    ] = "waveform"
    n_fft: Annotated[int, Positive, Field(description="frame length in samples")] = 512
    hop_length: Annotated[int, Positive, Field(description="samples from frame to frame")] = 128
    window: Annotated[
        Literal["hann", "hamming", "blackman", "ones"], Field(description="of a frame")
    ] = "hann"
    power: Annotated[Literal[1, 2], Field(description="2: power, 1: amplitude")] = 2
    n_mels: Annotated[int, Positive, Field(description="mel bands")] = 128
    fmin: Annotated[float, NotNegative, Field(description="lowest frequency in Hz")] = 0.0
    fmax: Annotated[
        float | None, Positive, Field(description="highest mel frequency in Hz; half the rate")
    ] = None
    n_mfcc: Annotated[int, Positive, Field(description="coefficients of mfcc")] = 20
    n_bins: Annotated[int, Positive, Field(description="bins of cqt")] = 84
    bins_per_octave: Annotated[int, Positive, Field(description="of cqt")] = 12
    squared: Annotated[
        bool | None,
        Field(description="dB of the squared values; by default where they are amplitudes"),
    ] = None
    top_db: Annotated[
        float | None, NotNegative, Field(description="dynamic range of an utterance in dB")
    ] = 80.0
    normalisation: Annotated[
        Literal["original", "sum", "max_global", "max_local"],
        Field(description="what a spectrogram is divided by: its sum, the largest of all, its own"),
    ] = "original"
    standardise: Annotated[
        bool, Field(description="mean 0 and deviation 1 of every cell over the training part")
    ] = True
    bounds: Annotated[
        tuple[float, ...],
        Field(description="least and largest valid feature, for attacks on features"),
    ] = ()
