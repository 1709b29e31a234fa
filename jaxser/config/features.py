"""The section ``features``: the spectrogram that a victim reads."""

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.ranges import NotNegative, Positive

__all__ = ["FeaturesConfig"]


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """The spectrogram that a victim reads, if it reads one; the settings are librosa's.

    What is None is as :class:`jaxser.speech.features.Spectrogram` has it, or, of a victim that
    reads images, as :func:`jaxser.speech.images.image_spectrogram` has it for the kind.
    """

    kind: Annotated[
        Literal["waveform", "linear", "mel", "log_mel", "mfcc", "cqt"],
        Field(description="waveform: the victim has no front end"),
    ] = "waveform"
    n_fft: Annotated[
        int | None,
        Positive,
        Field(description="frame length in samples; 512, or as the images of the kind need it"),
    ] = None
    win_length: Annotated[
        int | None, Positive, Field(description="window in it; all of it, or 256 in images")
    ] = None
    hop_length: Annotated[
        int | None, Positive, Field(description="samples from frame to frame; 128, or 70 in images")
    ] = None
    window: Annotated[
        Literal["hann", "hamming", "blackman", "ones"], Field(description="of a frame")
    ] = "hann"
    power: Annotated[Literal[1, 2], Field(description="2: power, 1: amplitude")] = 2
    n_mels: Annotated[
        int | None, Positive, Field(description="mel bands; 128, or 224 in images")
    ] = None
    fmin: Annotated[
        float | None,
        NotNegative,
        Field(description="lowest frequency in Hz; 0, or C1 in cqt images"),
    ] = None
    fmax: Annotated[
        float | None, Positive, Field(description="highest mel frequency in Hz; half the rate")
    ] = None
    n_mfcc: Annotated[
        int | None, Positive, Field(description="coefficients of mfcc; 20, or 224 in images")
    ] = None
    n_bins: Annotated[
        int | None, Positive, Field(description="bins of cqt; 84, or 224 in images")
    ] = None
    bins_per_octave: Annotated[
        int | None, Positive, Field(description="of cqt; 12, or 32 in images")
    ] = None
    squared: Annotated[
        bool | None,
        Field(description="dB of the squared values; by default where they are amplitudes"),
    ] = None
    top_db: Annotated[
        float | None, NotNegative, Field(description="dynamic range of an utterance in dB")
    ] = 80.0
    ref: Annotated[
        Literal["min", "max"] | Annotated[float, Positive],
        Field(description="what is 0 dB: a power, or the least or the largest of an utterance"),
    ] = 1.0
    normalisation: Annotated[
        Literal["original", "sum", "max_global", "max_local"],
        Field(description="what a spectrogram is divided by: its sum, the largest of all, its own"),
    ] = "original"
    compat: Annotated[
        Literal["paper"] | None,
        Field(
            description="paper: normalise as the notebooks of Facchinetti et al. do, not as their "
            "text says: max_global by its own largest, max_local every frame from 0 to 1"
        ),
    ] = None
    standardise: Annotated[
        bool, Field(description="mean 0 and deviation 1 of every cell over the training part")
    ] = True
    image_size: Annotated[
        int, Positive, Field(description="of images: rows and columns, as the network reads them")
    ] = 224
    colour_map: Annotated[
        Literal["table", "continuous"],
        Field(description="of images: jet's 256 colours, or the continuous ones behind them"),
    ] = "table"
    decibels: Annotated[
        tuple[float, ...],
        Field(
            description="of images: dB of the first and the last colour; by default the mean least "
            "and largest of the training part"
        ),
    ] = ()
    bounds: Annotated[
        tuple[float, ...],
        Field(description="least and largest valid feature, for attacks on features"),
    ] = ()
