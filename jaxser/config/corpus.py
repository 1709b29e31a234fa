"""The section ``corpus``: which speech a victim is trained on, and how it is prepared."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.ranges import NotNegative, Positive, Seed

__all__ = ["CorpusConfig"]


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Which speech, which split, and how it is made one length and one rate."""

    name: Annotated[str, Field(description="corpus name: see python -m jaxser.corpora list")] = (
        "synthetic"
    )
    root: Annotated[
        Path | None, Field(description="folder of the corpus; synthetic is made where absent")
    ] = None
    split: Annotated[
        str,
        Field(
            description="standard, speaker, given, kfold, loso, csv, iemocap_sessions, "
            "demos_40_30_30, random_64_16_20, random_80_20, file (80/20) or window (80/20, leaky)"
        ),
    ] = "standard"
    split_seed: Annotated[int, Seed, Field(description="seed of a drawn split")] = 0
    fold: Annotated[int, NotNegative, Field(description="fold number of kfold and loso")] = 0
    folds: Annotated[int, Field(ge=2, description="number of folds of kfold")] = 5
    split_file: Annotated[Path | None, Field(description="CSV of id,split for the split csv")] = (
        None
    )
    labels: Annotated[
        tuple[str, ...], Field(description="classes to keep, in this order; all by default")
    ] = ()
    limit: Annotated[
        int | None,
        Positive,
        Field(description="take this many utterances, spread over classes and speakers; a trial"),
    ] = None
    protocol: Annotated[
        Literal["clean", "paper"],
        Field(
            description="paper: augmented speech in every part, statistics fitted on all parts, "
            "and random_64_16_20 for the splits standard and speaker, as published"
        ),
    ] = "clean"
    chunks: Annotated[
        bool,
        Field(
            description="trim silence and cut every utterance into chunks of this many seconds, "
            "each repeated to full length, instead of one waveform per utterance"
        ),
    ] = False
    windows: Annotated[
        bool,
        Field(
            description="cut every utterance into overlapping windows of this many seconds; one "
            "that is shorter is filled up with zeros"
        ),
    ] = False
    stride_ms: Annotated[
        int, Positive, Field(description="with windows: milliseconds from window to window")
    ] = 10
    augment: Annotated[
        bool,
        Field(description="with chunks: add four changes of pitch and four of speed"),
    ] = False
    sample_rate: Annotated[int, Positive, Field(description="Hz, after resampling")] = 16_000
    seconds: Annotated[
        float, Positive, Field(description="length of every utterance: repeated, then cut")
    ] = 1.25
    channel: Annotated[Literal["left", "mean"], Field(description="how stereo becomes mono")] = (
        "left"
    )
    shortest: Annotated[
        float, NotNegative, Field(description="seconds; files that last less are damaged")
    ] = 0.1
    skip_damaged: Annotated[
        bool, Field(description="leave damaged files out and record them, instead of stopping")
    ] = False
    cache_dir: Annotated[
        Path | None, Field(description="prepared audio goes here ($JAXSER_CACHE, ~/.cache/jaxser)")
    ] = None

    @property
    def num_samples(self) -> int:
        """Samples per utterance after resampling and unifying."""
        return round(self.seconds * self.sample_rate)
