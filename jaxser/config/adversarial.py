"""The section ``training.adversarial``: the attack that a victim is trained against."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from jaxser.config.ranges import Domain, NotNegative, Positive

__all__ = ["USUAL_SHARE", "AdversarialConfig"]

# Of the rows of a batch that are attacked where nothing else is said.
USUAL_SHARE = 0.5


def _one_or_more(value: Any) -> Any:
    """A single number of a file is a list of one."""
    return (value,) if isinstance(value, int | float) else value


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """The attack that is trained against; without one, training is as usual."""

    attack: Annotated[
        str | None,
        Field(
            description="fgsm, bim, mifgsm, pgd, eotpgd, sparsepgd or apgd, or a YAML file of name "
            "and parameters; none: train on clean speech alone"
        ),
    ] = None
    params: Annotated[
        tuple[str, ...],
        Field(description="the attack's hyper-parameters, such as steps=10 relative_step_size=0.2"),
    ] = ()
    epsilon: Annotated[
        tuple[float, ...],
        BeforeValidator(_one_or_more),
        Field(
            max_length=2,
            description="budget in the units of the domain; two values are a range, from which "
            "every row draws its own",
        ),
    ] = ()
    domain: Annotated[
        Domain | None,
        Field(
            description="what the attack changes, as in python -m jaxser.attack; without: what the "
            "network reads (the waveform, the features or the image)"
        ),
    ] = None
    share: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description=f"of the rows of a batch that are attacked ({USUAL_SHARE}; 1 is Madry et "
            "al.'s; trades and mart take all rows, clean and attacked)",
        ),
    ] = None
    warmup_epochs: Annotated[
        float, Field(ge=0, le=1e6, description="epochs over which epsilon grows from 0")
    ] = 0.0
    loss: Annotated[
        Literal["adversarial", "trades", "mart"],
        Field(
            description="cross-entropy of attacked rows, or Zhang et al. 2019, or Wang et al. 2020"
        ),
    ] = "adversarial"
    beta: Annotated[
        float | None,
        NotNegative,
        Field(description="weight of the robust term of trades (6) and mart (5)"),
    ] = None
    awp: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="adversarial weight perturbation (Wu et al. 2020): its size relative to "
            "the weights of each layer, such as 0.005; 0: none",
        ),
    ] = 0.0
    batch_norm: Annotated[
        Literal["evaluation", "training"],
        Field(
            description="mode of the victim while it is attacked: running statistics and no "
            "dropout, as torchattacks has it; or those of the batch, and dropout"
        ),
    ] = "evaluation"
    random_start: Annotated[
        bool,
        Field(
            description="fgsm starts at a random point and steps 1.25 epsilon (Wong et al. 2020)"
        ),
    ] = False
    replays: Annotated[
        int,
        Positive,
        Field(
            description="of fgsm: updates on every batch, each of which also moves the attack by "
            "the same backward pass (free training, Shafahi et al. 2019)"
        ),
    ] = 1
    watch_rows: Annotated[
        int,
        NotNegative,
        Field(
            description="rows of the training and of the validation part that PGD attacks after "
            "every epoch; 0: none"
        ),
    ] = 128
    on_overfitting: Annotated[
        Literal["warn", "stop"],
        Field(
            description="what to do when the victim learns to withstand its training attack alone "
            "(catastrophic overfitting)"
        ),
    ] = "warn"

    @model_validator(mode="before")
    @classmethod
    def _of_nothing(cls, values: Any) -> Any:
        """``adversarial:`` without anything below it is no attack."""
        return {} if values is None else values
