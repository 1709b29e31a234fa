"""ART's side of the systematic evaluation's Table 5: class, arguments and rows by line."""

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["Peer", "peers"]

# The authors' batch.
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Peer:
    """ART's side of a line, and how both are run.

    Attributes:
      name: ART's class.
      parameters: ART's arguments, from the attack here and ε.
      slots: rows at a time here.
      rows: at most, where ART is slow.
      by_chance: whether the outcome depends on random numbers, which are not the same ones.
    """

    name: str
    parameters: Callable[[Any, float], dict[str, Any]]
    slots: int = 16
    rows: int = 1_000_000
    by_chance: bool = False


def peers() -> dict[str, Peer]:
    """The lines that ART has, by their name in the table."""
    return {
        "FGSM": Peer("FastGradientMethod", lambda a, e: {"eps": e, "batch_size": _BATCH}),
        "BIM": Peer(
            "BasicIterativeMethod",
            lambda a, e: {
                "eps": e,
                "eps_step": a.step_size,
                "max_iter": a.steps,
                "batch_size": _BATCH,
            },
            # Five ε of eight rows, which all take as long.
            slots=40,
            rows=8,
        ),
        "DeepFool": Peer(
            "DeepFool",
            lambda a, e: {
                "max_iter": a.steps,
                "epsilon": a.overshoot,
                "nb_grads": a.candidates,
                "batch_size": _BATCH,
            },
            rows=8,
        ),
        "JSMA": Peer(
            "SaliencyMapMethod",
            lambda a, e: {"theta": a.theta, "gamma": a.gamma, "batch_size": _BATCH},
            # A row that is done makes room for the next.
            slots=2,
            rows=8,
        ),
        "C&W L2": Peer(
            "CarliniL2Method",
            lambda a, e: {
                "learning_rate": a.learning_rate,
                "max_iter": a.steps,
                "binary_search_steps": a.binary_search_steps,
                "initial_const": a.initial_const,
                "max_halving": a.max_halving,
                "max_doubling": a.max_doubling,
                "batch_size": _BATCH,
            },
            rows=8,
        ),
        "C&W": Peer(
            "CarliniLInfMethod",
            lambda a, e: {
                "learning_rate": a.learning_rate,
                "max_iter": a.steps,
                "initial_const": a.initial_const,
                "largest_const": a.largest_const,
                "const_factor": a.const_factor,
                "decrease_factor": a.decrease_factor,
                "batch_size": _BATCH,
            },
            rows=8,
        ),
        "PixelAttack": Peer(
            "PixelAttack",
            # ART's 1 is differential evolution.
            lambda a, e: {"th": a.count, "es": 1, "max_iter": a.generations},
            slots=2,
            rows=1,
            by_chance=True,
        ),
        "BoundaryAttack": Peer(
            "BoundaryAttack",
            lambda a, e: {
                "targeted": False,
                "delta": a.first_spherical_step,
                "epsilon": a.source_step,
                "step_adapt": 1 / a.step_adaptation,
                "max_iter": a.iterations,
                "num_trial": a.trials,
                "sample_size": a.samples,
                "init_size": a.start_tries,
                "batch_size": _BATCH,
            },
            # A pass has ten samples of a row, and rows that are done wait for the others.
            slots=1,
            rows=4,
            by_chance=True,
        ),
    }
