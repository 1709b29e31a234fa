"""AutoAttack: an ensemble of attacks without parameters, each on what the ones before left over.

    attack = AutoAttack()
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
    noisy = AutoAttack(variant="random")         # for a victim that is randomised
    [member.name for member in attack.attacks(num_classes=7)]

Source: Croce & Hein, ICML 2020, section 5, with the settings of the authors' code. "standard" is
APGD on the cross-entropy, APGD on the targeted difference of logits ratio, targeted FAB and Square;
"random" is APGD on the cross-entropy and on the ratio, with gradients that are the mean over 20
draws of the victim's noise.
"""

import dataclasses
from typing import ClassVar, Literal

from jaxser.attacks.apgd import APGD
from jaxser.attacks.base import Attack
from jaxser.attacks.fab import FAB
from jaxser.attacks.hyperparameters import check_bounds, check_choice
from jaxser.attacks.projections import Bounds
from jaxser.attacks.square import Square

__all__ = ["AutoAttack"]

_TARGET_CLASSES = 9
_SAMPLES = 20
_QUERIES = 5_000


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """AutoAttack in the L∞ or L2 ball; the attacks it consists of are its members.

    Attributes:
      targeted: go towards the label; FAB, which cannot, is left out then.
      bounds: valid range of an input, or None.
      variant: "standard", or "random" for randomised victims.
      norm: "linf" or "l2".

    Examples:
      It is run as any attack is; ``result.stage`` says which member a row fell to.

      >>> import jaxser
      >>> attack = jaxser.attacks.AutoAttack(norm="l2")
      >>> [member.name for member in attack.attacks(num_classes=7)]
      ['apgd', 'apgd', 'fab', 'square']
    """

    name: ClassVar[str] = "autoattack"

    targeted: bool = False
    bounds: Bounds = (-1.0, 1.0)
    variant: Literal["standard", "random"] = "standard"
    norm: Literal["linf", "l2"] = "linf"

    def __post_init__(self) -> None:
        check_bounds(self.name, self.bounds)
        check_choice(self.name, "variant", self.variant, ("standard", "random"))
        check_choice(self.name, "norm", self.norm, ("linf", "l2"))

    def attacks(self, num_classes: int) -> tuple[Attack, ...]:
        """The members in the order in which they run.

        Args:
          num_classes: of the victim; it has at most nine target classes tried.
        """
        targeted, bounds, norm = self.targeted, self.bounds, self.norm
        if self.variant == "random":
            samples = _SAMPLES
            return (
                APGD(targeted, bounds, norm=norm, loss="ce", samples=samples),
                APGD(targeted, bounds, norm=norm, loss="dlr", samples=samples),
            )
        others = min(_TARGET_CLASSES, num_classes - 1)
        apgd = APGD(targeted, bounds, norm=norm, loss="ce")
        towards = APGD(targeted, bounds, norm=norm, loss="targeted_dlr", target_classes=others)
        # The authors do not stretch Square's schedule, made for 10,000 queries, over 5,000.
        square = Square(targeted, bounds, norm=norm, queries=_QUERIES, rescale_schedule=False)
        if targeted:
            return apgd, towards, square
        fab = FAB(targeted, bounds, norm=norm, target_classes=others)
        return apgd, towards, fab, square
