"""What ``python -m jaxser.tune`` takes: a training config, and the values to try in it.

Source of the space: Facchinetti et al., 2024, section 2.3.2.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.command_line import FlagGroups
from jaxser.config.ranges import Positive
from jaxser.config.train import TrainConfig

__all__ = ["TUNE_FLAGS", "SearchConfig", "TuneConfig"]

Share = Annotated[float, Field(ge=0, lt=1)]
Searched = Literal["learning_rate", "batch_size", "dropout", "lstm_dropout", "units"]

TUNE_FLAGS: FlagGroups = {
    "the search": (
        *("search.out", "search.trials", "search.executions", "search.fields"),
        *("search.learning_rate", "search.batch_size", "search.dropout", "search.lstm_dropout"),
        *("search.units", "search.min_epochs", "search.reduction"),
    ),
    "what every trial trains": (
        *("corpus.name", "corpus.root", "corpus.split", "model.name", "features.kind"),
        *("training.epochs", "seed"),
    ),
    "of training configs, and of no use here": ("out", "threat", "interval_over"),
}


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The values that are tried, and for how long."""

    out: Annotated[Path, Field(description="folder of the search; one that is there goes on")] = (
        Path("runs/tune")
    )
    trials: Annotated[int, Field(gt=0, description="in all, with those of earlier starts")] = 30
    executions: Annotated[
        int,
        Field(
            gt=0,
            description="trainings of a trial, with a seed each: the first says whether it is "
            "stopped, the mean of all is its loss (3 in the paper)",
        ),
    ] = 1
    fields: Annotated[
        tuple[Searched, ...],
        Field(min_length=1, description="what is searched; the paper began with units alone"),
    ] = ("learning_rate", "batch_size", "dropout", "lstm_dropout")
    learning_rate: Annotated[
        tuple[Annotated[float, Positive], ...],
        Field(min_length=1, description="training.learning_rate"),
    ] = (1e-2, 1e-3, 1e-4)
    batch_size: Annotated[
        tuple[Annotated[int, Positive], ...], Field(min_length=1, description="training.batch_size")
    ] = (8, 16, 32, 64, 128)
    dropout: Annotated[tuple[Share, ...], Field(min_length=1, description="model.dropout")] = (
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
    )
    lstm_dropout: Annotated[
        tuple[Share, ...], Field(min_length=1, description="model.lstm_dropout")
    ] = (0.0, 0.1, 0.2, 0.3, 0.4)
    units: Annotated[
        tuple[Annotated[int, Positive], ...],
        Field(min_length=1, description="model.units, of the LSTM"),
    ] = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    min_epochs: Annotated[
        int, Field(gt=0, description="a trial is not stopped before this many")
    ] = 3
    reduction: Annotated[
        int, Field(ge=2, description="Hyperband goes on with one trial in this many")
    ] = 3


@dataclasses.dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """A training config and what to vary in it."""

    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
