"""What ``python -m jaxser.explain`` takes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.attack import AttackedCorpusConfig
from jaxser.config.command_line import FlagGroups
from jaxser.config.ranges import Domain, Positive, Seed

__all__ = ["EXPLAIN_FLAGS", "ExplainConfig"]

EXPLAIN_FLAGS: FlagGroups = {
    "most used": ("victim", "attack", "epsilon", "params", "domain", "limit", "out"),
}


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    """What a victim's last layer makes of speech, clean and attacked."""

    victim: Annotated[Path, Field(description="run folder")] = Path("runs/demo")
    attack: Annotated[str, Field(description="name, or a YAML file of name and parameters")] = "pgd"
    epsilon: Annotated[
        float, Positive, Field(description="of the attack, in the units of the domain")
    ] = 0.005
    params: Annotated[
        tuple[str, ...], Field(description="the attack's hyper-parameters, such as steps=40")
    ] = ()
    domain: Annotated[
        Domain, Field(description="what the attack changes, as in python -m jaxser.attack")
    ] = "waveform"
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
    seed: Annotated[int, Seed, Field(description="of the attack and of t-SNE")] = 0
    out: Annotated[
        Path | None, Field(description="folder of the picture and its points (VICTIM/explain)")
    ] = None
    corpus: AttackedCorpusConfig = dataclasses.field(default_factory=AttackedCorpusConfig)
