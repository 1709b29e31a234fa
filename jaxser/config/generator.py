"""The section ``generator``: STAA-Net's network and what it is trained for."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxser.config.ranges import NotNegative, Positive

__all__ = ["GeneratorConfig"]


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """STAA-Net: a network that makes adversarial speech, and what it is trained for."""

    widths: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="channels of the Wave-U-Net's levels, multiples of 8"),
    ] = (32, 64, 128, 256, 512, 1024)
    padding: Annotated[
        Literal["valid", "same"],
        Field(description="valid: reflected input, as published; same: no sample is wasted"),
    ] = "valid"
    epsilon: Annotated[
        tuple[float, ...],
        Field(
            min_length=1,
            max_length=2,
            description="largest amplitude of a change; a lowest and a highest one train for all "
            "between, with epsilon as an input",
        ),
    ] = (0.05,)
    target: Annotated[
        str | None,
        Field(description="label to reach instead of leaving the prediction; all: any, as asked"),
    ] = None
    magnitudes: Annotated[
        Literal["tanh", "clip"],
        Field(description="limit of the changes, as in the authors' code or as in their paper"),
    ] = "tanh"
    quantisation: Annotated[
        Literal["random", "straight_through"], Field(description="of the mask in training")
    ] = "random"
    factorised: Annotated[
        bool, Field(description="locations beside magnitudes; without, all samples change")
    ] = True
    gamma: Annotated[
        float, Field(gt=0, lt=1, description="location score from which on a sample changes")
    ] = 0.5
    confidence: Annotated[
        float, NotNegative, Field(description="margin of the logits beyond which more is no better")
    ] = 0.0
    reduction: Annotated[
        Literal["row", "batch"],
        Field(
            description="norms of each row and means over the rows; or of the whole batch and sums,"
            " as published, which change with the batch size: magnitude_weight and "
            "quantisation_weight weigh its root less by those"
        ),
    ] = "row"
    magnitude_weight: Annotated[float, NotNegative, Field(description="of the L2 norm")] = 1e-3
    sparsity_weight: Annotated[float, NotNegative, Field(description="of the mask's L1 norm")] = (
        1e-4
    )
    quantisation_weight: Annotated[
        float, NotNegative, Field(description="of the distance to a mask of zeros and ones")
    ] = 1e-4
    keep_sparsity: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="share of changed samples to arrive at, for each target apart; "
            "replaces sparsity_weight",
        ),
    ] = None
    anneal_epochs: Annotated[
        int,
        NotNegative,
        Field(description="over which the share of changed samples falls from 1 to keep_sparsity"),
    ] = 0
    keep_snr: Annotated[
        float | None,
        Field(description="least power SNR in dB, on average; replaces magnitude_weight"),
    ] = None
    multiplier_rate: Annotated[
        float, Positive, Field(description="step of the multipliers that keep_... adapts")
    ] = 0.05
    start: Annotated[
        Path | None, Field(description="run folder of a trained generator to go on from")
    ] = None
