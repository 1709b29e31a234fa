"""What ``python -m jaxser.certify`` takes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.attack import AttackCommandConfig, AttackedCorpusConfig
from jaxser.config.command_line import FlagGroups
from jaxser.config.ranges import INTERVAL_OVER, Domain, IntervalOver, Positive, Seed

__all__ = ["CERTIFY_FLAGS", "CertifyConfig"]

CERTIFY_FLAGS: FlagGroups = {
    "most used": ("victim", "sigma", "samples", "limit", "rows", "out"),
    "what is certified": ("domain", "split", "alpha", "samples0"),
    "how it runs": ("batch_size", "seed", "interval_over"),
}

# More draws would be no others: the noise is counted in 31 bits.
_DRAWS = Field(ge=1, le=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class CertifyConfig:
    """The L2 radius in which a smoothed victim's answer provably stays, for every utterance."""

    victim: Annotated[Path, Field(description="run folder of python -m jaxser.train")] = Path(
        "runs/demo"
    )
    sigma: Annotated[
        float,
        Positive,
        Field(
            description="standard deviation of the noise, in the units of the domain: of a "
            "waveform the share of full scale",
        ),
    ] = 0.01
    samples0: Annotated[int, _DRAWS, Field(description="draws that choose a class")] = 100
    samples: Annotated[
        int,
        _DRAWS,
        Field(
            description="draws that the class is counted in: radii grow with them; so many are "
            "seconds an utterance on an accelerator and many minutes on a CPU, 1000 are seconds"
        ),
    ] = 100_000
    alpha: Annotated[
        float, Field(gt=0, lt=1, description="how often the radius of an utterance may be wrong")
    ] = 0.001
    domain: Annotated[
        Domain,
        Field(
            description="what the noise is added to, and what the radius is of, as in python -m "
            "jaxser.attack"
        ),
    ] = "waveform"
    split: Annotated[
        Literal["train", "val", "test"], Field(description="part of the corpus to certify")
    ] = "test"
    limit: Annotated[
        int | None,
        Positive,
        Field(description="certify this many utterances, spread over the part"),
    ] = None
    rows: Annotated[
        Path | None,
        Field(
            description="folder of rows of L2 attacks on the same run, plain or --smoothing, whose "
            "accuracy is drawn above the certified one"
        ),
    ] = None
    seed: Annotated[int, Seed, Field(description="of the noise")] = 0
    batch_size: Annotated[
        int | None, Positive, Field(description="passes at a time over all devices")
    ] = None
    interval_over: Annotated[IntervalOver, INTERVAL_OVER] = "utterance"
    out: Annotated[
        Path | None, Field(description="folder of the certificates (VICTIM/certificates/HASH)")
    ] = None
    corpus: AttackedCorpusConfig = dataclasses.field(default_factory=AttackedCorpusConfig)

    def of_speech(self) -> AttackCommandConfig:
        """What is certified, as the loading of speech takes it."""
        return AttackCommandConfig(
            victim=self.victim,
            domain=self.domain,
            split=self.split,
            limit=self.limit,
            seed=self.seed,
            corpus=self.corpus,
        )
