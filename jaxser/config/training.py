"""The sections ``model`` and ``training``: which victim, and how it is trained."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.adversarial import AdversarialConfig
from jaxser.config.ranges import NotNegative, Positive

__all__ = ["OF_ONE_MODEL", "LogTo", "ModelConfig", "TrainingConfig"]

# What can show a run's figures.
LogTo = Literal["tensorboard", "wandb", "mlflow", "trackio"]

# What a file says of the model that it names, and of no other that takes its place.
OF_ONE_MODEL = ("dropout", "lstm_dropout", "units")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which victim."""

    name: Annotated[
        str,
        Field(
            description="emo18, zhao19, wav2vec2-base, hubert-base, wavlm-base and larger ones; on "
            "spectrograms: cnn_lstm, cnn_lstm_m0 to _m6; on images of spectrograms: "
            "echim_cnn_lstm, alexnet, vgg16, vit-b16, cvt-13, cvt-21, levit-256 and others; "
            "another one than the file's does not take over its dropouts and units"
        ),
    ] = "emo18"
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="where the model has it; its own by default")
    ] = None
    lstm_dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="of cnn_lstm's LSTM; its own by default")
    ] = None
    units: Annotated[
        int | None, Positive, Field(description="of a CNN-LSTM's LSTM; its own by default")
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="precision inside the victim or generator"),
    ] = "float32"
    checkpoint: Annotated[
        Path | None,
        Field(
            description="folder of Hugging Face (config.json, model.safetensors) with the wav2vec "
            "2.0, HuBERT or WavLM to fine-tune, of any size; or with a network of images"
        ),
    ] = None
    freeze_feature_encoder: Annotated[
        bool, Field(description="do not train the convolutions of a speech transformer")
    ] = True
    attention: Annotated[
        Literal["xla", "cudnn"], Field(description="kernel of a speech transformer's attention")
    ] = "xla"
    scan_layers: Annotated[
        bool, Field(description="one compiled loop over a speech transformer's blocks")
    ] = False
    remat: Annotated[
        bool, Field(description="recompute its blocks for their gradients, to save memory")
    ] = False


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Adam on cross-entropy, and when to stop and save."""

    epochs: Annotated[int, Positive, Field(description="passes over the training part")] = 7
    batch_size: Annotated[int, Positive, Field(description="over all devices")] = 8
    accumulate: Annotated[
        int, Positive, Field(description="batches whose mean gradient makes one update")
    ] = 1
    learning_rate: Annotated[float, Positive, Field(description="peak of the schedule")] = 1e-3
    schedule: Annotated[
        Literal["constant", "cosine", "step", "plateau"],
        Field(
            description="of the learning rate; step multiplies by decay every decay_epochs, "
            "plateau after decay_epochs without a lower validation loss"
        ),
    ] = "cosine"
    warmup_steps: Annotated[int, NotNegative, Field(description="linear warm-up from 0")] = 0
    decay: Annotated[
        float, Field(gt=0, le=1, description="factor of the step and plateau schedules")
    ] = 0.5
    decay_epochs: Annotated[
        int, Positive, Field(description="of the step and plateau schedules")
    ] = 5
    layer_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="factor of the learning rate from a transformer's block to the one below",
        ),
    ] = 1.0
    weight_decay: Annotated[
        float, NotNegative, Field(description="L2 penalty in the gradient, as torch's Adam has it")
    ] = 0.0
    class_weights: Annotated[
        bool, Field(description="weigh the loss by inverse class frequency")
    ] = False
    mixup: Annotated[
        float,
        NotNegative,
        Field(description="alpha of mixup: pairs of loudness-normalised utterances; 0: none"),
    ] = 0.0
    random_shift: Annotated[
        bool, Field(description="rotate every training utterance in time by a random amount")
    ] = False
    image_augmentation: Annotated[
        bool,
        Field(description="stretch images in time and mask a little of them, at random"),
    ] = False
    noise: Annotated[
        float,
        NotNegative,
        Field(
            description="standard deviation of Gaussian noise on every training input, drawn anew "
            "in every step: the waveform, or the features of a victim that reads them"
        ),
    ] = 0.0
    report_train: Annotated[
        bool, Field(description="in the end also evaluate the part that it was trained on")
    ] = False
    monitor: Annotated[
        Literal["uar", "loss", "robust", "asr", "last"],
        Field(
            description="validation figure that picks the best epoch: uar of a victim, robust (UAR "
            "under PGD) of one with training.adversarial, asr (attack success rate) of a "
            "generator, the loss of both; last: none does"
        ),
    ] = "uar"
    patience: Annotated[
        int, NotNegative, Field(description="epochs without a better one before stopping; 0: never")
    ] = 0
    adversarial: AdversarialConfig = dataclasses.field(default_factory=AdversarialConfig)
    checkpoint_minutes: Annotated[
        float, Field(gt=0, description="also save within an epoch this often; inf: never")
    ] = 5.0
    log_to: Annotated[
        LogTo,
        Field(description="what shows the figures of every epoch beside the run folder"),
    ] = "tensorboard"
