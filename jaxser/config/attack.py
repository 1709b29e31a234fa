"""What ``python -m jaxser.attack`` takes, and an attack as files of sweeps and tables name it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jaxser.config.command_line import FlagGroups
from jaxser.config.ranges import INTERVAL_OVER, Domain, IntervalOver, Output, Positive, Seed

__all__ = [
    "ATTACK_FLAGS",
    "AttackCommandConfig",
    "AttackedCorpusConfig",
    "NamedAttack",
    "as_params",
]

ATTACK_FLAGS: FlagGroups = {
    "most used": ("victim", "attack", "suite", "epsilon", "params", "target", "limit", "out"),
    "what is measured and shown": ("by", "wide", "interval_over", "stoi", "show", "save_wav"),
    "what is attacked": (
        *("split", "y", "domain", "output", "epsilon_unit", "labels"),
        *("smoothing", "smoothing_samples"),
    ),
    "how it runs": ("batch_size", "seed", "draws"),
}


@dataclasses.dataclass(frozen=True)
class AttackedCorpusConfig:
    """Where the speech lies; whatever is not said is as in the victim's own run."""

    name: Annotated[str | None, Field(description="another corpus than the victim's own")] = None
    root: Annotated[Path | None, Field(description="folder of the corpus")] = None
    split: Annotated[
        str | None, Field(description="split scheme, as in python -m jaxser.train")
    ] = None
    split_file: Annotated[Path | None, Field(description="CSV of id,split for the split csv")] = (
        None
    )
    seconds: Annotated[
        float | None,
        Positive,
        Field(description="length of the speech, of a pretrained victim (6)"),
    ] = None
    skip_damaged: Annotated[
        bool, Field(description="leave damaged files out instead of stopping")
    ] = False
    cache_dir: Annotated[
        Path | None, Field(description="prepared audio goes here ($JAXSER_CACHE, ~/.cache/jaxser)")
    ] = None


@dataclasses.dataclass(frozen=True)
class AttackCommandConfig:
    """One attack on one victim at one or several ε."""

    victim: Annotated[
        Path,
        Field(
            description="run folder of python -m jaxser.train, or a wav2vec 2.0, HuBERT or WavLM "
            "model of Hugging Face, by its folder or its name on the hub"
        ),
    ] = Path("runs/demo")
    attack: Annotated[
        str,
        Field(
            description="its name, such as fgsm or pgd (docs/attacks.md has all), or a YAML "
            "file of name, paper and parameters"
        ),
    ] = "pgd"
    suite: Annotated[
        str | None,
        Field(
            description="in place of attack, params and epsilon a fixed list of them: quick, "
            "standard or full (docs/attacks.md)"
        ),
    ] = None
    epsilon: Annotated[
        tuple[float, ...],
        Field(
            description="budgets in the attack's norm, for L0 numbers of samples; without: "
            "0.005 0.01, or inf (no limit) where the attack looks for the smallest perturbation"
        ),
    ] = ()
    epsilon_unit: Annotated[
        Literal["amplitude", "snr_peak", "snr_power"],
        Field(description="the attack's norm, or the least SNR of each utterance in dB"),
    ] = "amplitude"
    params: Annotated[
        tuple[str, ...],
        Field(description="the attack's hyper-parameters, such as steps=40 norm=l2"),
    ] = ()
    domain: Annotated[
        Domain,
        Field(
            description="what the attack changes: the waveform, through the front end; the "
            "standardised spectrogram (features) of a victim that reads one; of one that reads "
            "images the spectrogram before it is coloured, or the image"
        ),
    ] = "waveform"
    output: Annotated[
        Output,
        Field(
            description="what the attack is given of the victim; probabilities, as some papers "
            "did: its gradients are saturated then, and what withstands is no more robust for it"
        ),
    ] = "logits"
    smoothing: Annotated[
        float | None,
        Positive,
        Field(
            description="attack the victim smoothed by Gaussian noise of this standard deviation "
            "in the domain, as python -m jaxser.certify certifies it"
        ),
    ] = None
    smoothing_samples: Annotated[
        int, Positive, Field(description="draws of that noise in every pass of the smoothed victim")
    ] = 16
    split: Annotated[
        Literal["train", "val", "test"], Field(description="part of the corpus to attack")
    ] = "test"
    limit: Annotated[
        int | None, Positive, Field(description="attack this many utterances, spread over the part")
    ] = None
    labels: Annotated[
        tuple[str, ...],
        Field(
            description="which label of the victim is which of the corpus, such as ang=anger, "
            "where they are not found by name"
        ),
    ] = ()
    y: Annotated[
        Literal["truth", "prediction"], Field(description="label that the attack wants to leave")
    ] = "truth"
    target: Annotated[
        str | None, Field(description="label to reach instead; utterances of it are left out")
    ] = None
    seed: Annotated[int, Seed, Field(description="of random starts")] = 0
    draws: Annotated[
        int,
        Positive,
        Field(
            description="of a randomised victim's noise that a finished row must withstand; "
            "success_share is the share in which it does not"
        ),
    ] = 5
    batch_size: Annotated[
        int | None, Positive, Field(description="rows per batch over all devices")
    ] = None
    by: Annotated[
        Literal["class", "gender", "speaker", "language", "corpus"] | None,
        Field(description="also print the table split by this"),
    ] = None
    interval_over: Annotated[IntervalOver, INTERVAL_OVER] = "utterance"
    wide: Annotated[
        bool, Field(description="all columns of the tables, however narrow the terminal is")
    ] = False
    save_wav: Annotated[
        bool,
        Field(
            description="write the adversarial speech as float32 WAV files; of attacked features "
            "librosa's inverse, to listen to"
        ),
    ] = False
    show: Annotated[
        tuple[str, ...],
        Field(
            description="utterances to look at and to listen to, by their ids or the ends of "
            "them: their speech, the adversarial speech and the difference as WAV files and in a "
            "picture"
        ),
    ] = ()
    stoi: Annotated[
        bool, Field(description="measure intelligibility too, on the host, 10 ms for every second")
    ] = False
    out: Annotated[
        Path | None, Field(description="folder of the rows (VICTIM/attacks/ATTACK-HASH)")
    ] = None
    corpus: AttackedCorpusConfig = dataclasses.field(default_factory=AttackedCorpusConfig)


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """One attack of a file.

    Attributes:
      attack: name, or a YAML file of name and parameters.
      name: what tables call it; the attack by default.
      parameters: hyper-parameters.
    """

    attack: str = "fgsm"
    name: str = ""
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.name or Path(self.attack).stem


def as_params(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Hyper-parameters of a mapping as ``AttackCommandConfig.params`` has them."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return tuple(f"{name}={text(value)}" for name, value in values.items())
