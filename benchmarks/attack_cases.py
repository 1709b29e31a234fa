"""Which attack here has which counterpart in a library, and the equal work that both do.

case = cases()["torchattacks"]["pgd"]
attack = case.attack(Work(**case.work))         # PGD with 20 steps, as the peer's
"""

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["Case", "Work", "cases"]


@dataclasses.dataclass(frozen=True)
class Work:
    """What both sides do, in the units of the waveform.

    Attributes:
      epsilons: amplitudes; one for most attacks.
      steps: iterations (of the outer loop).
      queries: forward passes per utterance, for black-box attacks.
      population: candidates per generation.
      binary_steps: rounds of the search for c.
      step: length of a step; None: the peer's own default.
    """

    epsilons: tuple[float, ...] = (0.01,)
    steps: int = 20
    queries: int = 1000
    population: int = 100
    binary_steps: int = 5
    step: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One attack of one peer and its counterpart here.

    Attributes:
      attack: makes the counterpart.
      work: what both sides do.
      norm: of the distortion in the table.
      batched: whether the peer takes a batch at a time.
      frozen: whether the peer's parameters want no gradients, which is the fastest for it; those of
        a model that was trained just before do want them.
      noise_starts: whether the peer starts from full-scale noise and stops with an error where that
        is of the utterance's own class; such utterances are left out on both sides.
      rows: at most, where the peer is slow; None: all.
    """

    attack: Callable[[Work], Any]
    work: dict[str, Any]
    norm: str
    batched: bool = True
    frozen: bool = True
    noise_starts: bool = False
    rows: int | None = None


def cases() -> dict[str, dict[str, Case]]:
    """Peer → attack → case."""
    from jaxser import attacks

    sweep = tuple(0.0005 * 1.35**i for i in range(16))
    return {
        "torchattacks": {
            "pgd": Case(lambda w: attacks.PGD(steps=w.steps), {"steps": 20}, "linf"),
            "fgsm": Case(lambda w: attacks.FGSM(), {"epsilons": sweep}, "linf"),
            "mifgsm": Case(lambda w: attacks.MIFGSM(steps=w.steps), {"steps": 10}, "linf"),
            "eotpgd": Case(lambda w: attacks.EOTPGD(steps=w.steps, samples=2), {}, "linf"),
            "deepfool": Case(
                lambda w: attacks.DeepFool(steps=w.steps), {"steps": 50}, "l2", batched=False
            ),
            "deepfool_trainable": Case(
                lambda w: attacks.DeepFool(steps=w.steps),
                {"steps": 50},
                "l2",
                batched=False,
                frozen=False,
            ),
            "sparsefool": Case(
                lambda w: attacks.SparseFool(variant="torchattacks", steps=w.steps),
                {"steps": 10},
                "l0",
                batched=False,
                rows=16,
            ),
            "square": Case(
                lambda w: attacks.Square(queries=w.queries),
                {"queries": 100, "epsilons": (0.005,)},
                "linf",
            ),
            "pixle": Case(
                lambda w: attacks.Pixle(restarts=w.steps, iterations=w.population),
                {"steps": 10, "population": 10},
                "l0",
                batched=False,
                rows=16,
            ),
            # An utterance that withstands takes 7,000 passes a side, so take few of those.
            "autoattack": Case(
                lambda w: attacks.AutoAttack(),
                {"steps": 100, "queries": 5000, "epsilons": (0.03,)},
                "linf",
                rows=8,
            ),
        },
        "art": {
            "deepfool": Case(lambda w: attacks.DeepFool(steps=w.steps), {"steps": 20}, "l2"),
            "jsma": Case(
                lambda w: attacks.JSMA(theta=w.epsilons[0], gamma=w.step or 1.0, compat="art"),
                {"epsilons": (0.1,), "step": 0.001},
                "l0",
            ),
            # Without abort_early, so that both take every step.
            "carlinil2": Case(
                lambda w: attacks.CarliniL2(
                    steps=w.steps,
                    binary_search_steps=w.binary_steps,
                    initial_const=0.01,
                    abort_early=False,
                ),
                {"steps": 10, "binary_steps": 6},
                "l2",
                rows=4,
            ),
            "carlinilinf": Case(
                lambda w: attacks.CarliniLinf(steps=w.steps),
                {"steps": 10},
                "linf",
                batched=False,
                rows=8,
            ),
            "onepixel": Case(
                lambda w: attacks.OnePixel(population=399, generations=w.steps),
                {"steps": 2, "epsilons": (2.0,)},
                "l0",
                batched=False,
                rows=4,
            ),
        },
        "foolbox": {
            "pgd": Case(lambda w: attacks.PGD(steps=w.steps), {"steps": 20}, "linf"),
            "boundary": Case(
                lambda w: attacks.Boundary(queries=w.queries),
                {"queries": 300, "steps": 230},
                "l2",
                noise_starts=True,
            ),
            "hopskipjump": Case(
                lambda w: attacks.HopSkipJump(queries=w.queries),
                {"steps": 4, "queries": 1000},
                "l2",
                noise_starts=True,
            ),
            "carlinil2": Case(
                lambda w: attacks.CarliniL2(steps=w.steps, binary_search_steps=w.binary_steps),
                {"steps": 50, "binary_steps": 4},
                "l2",
            ),
        },
        "scipy": {
            "onepixel": Case(
                lambda w: attacks.OnePixel(population=w.population, generations=w.steps),
                {"steps": 4, "population": 300, "epsilons": (0.1,)},
                "l0",
                batched=False,
                rows=4,
            ),
        },
    }
