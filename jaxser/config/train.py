"""What ``python -m jaxser.train`` takes; the defaults are the demo."""

import dataclasses
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jaxser.config.command_line import FlagGroups
from jaxser.config.corpus import CorpusConfig
from jaxser.config.features import FeaturesConfig
from jaxser.config.generator import GeneratorConfig
from jaxser.config.ranges import INTERVAL_OVER, IntervalOver, Seed
from jaxser.config.training import ModelConfig, TrainingConfig
from jaxser.runtime.errors import UsageError

__all__ = ["TRAIN_FLAGS", "TrainConfig", "check_no_generator"]

TRAIN_FLAGS: FlagGroups = {
    "most used": (
        *("out", "corpus.name", "corpus.root", "corpus.split", "model.name", "features.kind"),
        *("training.epochs", "training.batch_size", "training.learning_rate", "seed"),
        "interval_over",
    ),
    "training against an attack": (
        *("training.adversarial.attack", "training.adversarial.params"),
        *("training.adversarial.epsilon", "training.adversarial.domain"),
        *("training.adversarial.share", "training.adversarial.warmup_epochs"),
        *("training.adversarial.loss", "training.adversarial.beta", "training.adversarial.awp"),
        *("training.adversarial.batch_norm", "training.adversarial.random_start"),
        *("training.adversarial.replays", "training.adversarial.watch_rows"),
        *("training.adversarial.on_overfitting", "training.noise"),
    ),
    "a generator instead of a victim": ("threat",),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run; the defaults are the demo."""

    out: Annotated[Path, Field(description="run folder; an unfinished run there is resumed")] = (
        Path("runs/demo")
    )
    seed: Annotated[int, Seed, Field(description="of initialisation and data order")] = 0
    threat: Annotated[
        tuple[Path, ...],
        Field(
            description="run folders of victims to train a generator of adversarial speech against,"
            " instead of a victim"
        ),
    ] = ()
    interval_over: Annotated[IntervalOver, INTERVAL_OVER] = "utterance"
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def check_no_generator(config: TrainConfig) -> None:
    """UsageError for settings of a generator where a victim is to be trained."""
    if config.generator != GeneratorConfig():
        raise UsageError(
            "settings of a generator (generator.*) are given, and no victims that it is to fool; "
            "give --threat RUN, or leave them out to train a victim."
        )
