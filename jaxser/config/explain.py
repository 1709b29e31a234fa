"""What ``python -m jaxser.explain`` takes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from jaxser.config.attack import AttackedCorpusConfig
from jaxser.config.command_line import FlagGroups
from jaxser.config.ranges import INTERVAL_OVER, Domain, IntervalOver, Positive, Seed
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import shown_value

__all__ = [
    "EXPLAIN_FLAGS",
    "OF_SPEECH",
    "Baseline",
    "ExplainConfig",
    "Explained",
    "Picture",
    "check_utterance",
]

EXPLAIN_FLAGS: FlagGroups = {
    "most used": ("victim", "attack", "epsilon", "params", "domain", "show", "limit", "out"),
    "what is explained": (
        "utterance",
        "explained",
        "baseline",
        "steps",
        "compat",
        "split",
        "interval_over",
    ),
}

OfSpeech = Literal["preparation", "architecture", "classes"]
Picture = Literal["tsne", "saliency", "gradcam", "integrated", "confusion", "agreement", OfSpeech]

# Pictures that need no attack.
OF_SPEECH: tuple[OfSpeech, ...] = get_args(OfSpeech)
Explained = Literal["prediction", "clean", "truth"]
Baseline = Literal["silence", "noise"]


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    """What victims make of speech, clean and attacked."""

    victim: Annotated[
        tuple[Path, ...], Field(min_length=1, description="run folders; several are compared")
    ] = (Path("runs/demo"),)
    attack: Annotated[str, Field(description="name, or a YAML file of name and parameters")] = "pgd"
    epsilon: Annotated[
        float,
        Field(
            gt=0,
            description="of the attack, in the units of the domain; inf (no limit) where it looks "
            "for the smallest perturbation",
        ),
    ] = 0.005
    params: Annotated[
        tuple[str, ...], Field(description="the attack's hyper-parameters, such as steps=40")
    ] = ()
    domain: Annotated[
        Domain, Field(description="what the attack changes, as in python -m jaxser.attack")
    ] = "waveform"
    show: Annotated[
        tuple[Picture, ...],
        Field(
            description="tsne: the last layer's map; saliency, gradcam (Grad-CAM++) and "
            "integrated (integrated gradients) of an utterance of each class; confusion; "
            "agreement: how much saliency and gradcam agree before and after, and integrated "
            "where it is named too. Without: all of these that the victim can give. Of a victim "
            "of spectrograms, without an attack: preparation: an utterance trimmed, cut into "
            "chunks and repeated; architecture: the layers of a CNN-LSTM; classes: PCA and t-SNE "
            "of all classes of its corpus"
        ),
    ] = ()
    utterance: Annotated[
        str | None, Field(description="of preparation; by default one that is cut into two chunks")
    ] = None
    explained: Annotated[
        Explained,
        Field(
            description="whose logit: of the class that each input is taken for, of what the clean "
            "one is taken for, or of the label"
        ),
    ] = "prediction"
    baseline: Annotated[
        Baseline | None,
        Field(
            description="where integrated gradients begin: noise, as loud as the utterance (for "
            "waveforms), or silence (for all else)"
        ),
    ] = None
    steps: Annotated[int, Positive, Field(description="of integrated gradients")] = 32
    compat: Annotated[
        Literal["grad-cam"] | None,
        Field(description="Grad-CAM++ with the constants of pytorch-grad-cam 1.5.7"),
    ] = None
    split: Annotated[
        Literal["train", "val", "test"], Field(description="part of the corpus to look at")
    ] = "test"
    limit: Annotated[
        int,
        Field(ge=4, description="this many utterances or windows, spread over the part"),
    ] = 500
    perplexity: Annotated[
        float, Positive, Field(description="of t-SNE: how many neighbours a point has")
    ] = 30.0
    seed: Annotated[int, Seed, Field(description="of the attack, of t-SNE and of noise")] = 0
    batch_size: Annotated[
        int | None, Positive, Field(description="rows per batch over all devices")
    ] = None
    interval_over: Annotated[IntervalOver, INTERVAL_OVER] = "utterance"
    out: Annotated[
        Path | None,
        Field(description="folder of the pictures and tables (VICTIM/explain; needed for several)"),
    ] = None
    corpus: AttackedCorpusConfig = dataclasses.field(default_factory=AttackedCorpusConfig)


def check_utterance(config: ExplainConfig) -> None:
    """UsageError for the name of an utterance where none is drawn on its way to the network."""
    if config.utterance is not None and "preparation" not in config.show:
        raise UsageError(
            f"--utterance {shown_value(config.utterance)} names what --show preparation draws; "
            "give both, or leave it out."
        )
