"""STAA-Net: adversarial speech from a trained generator, in one pass and without the victim.

    generator = jaxser.load_generator("runs/staa_net")
    result = run_attack(victim, x, y, StaaNet(generator=generator), epsilons=[0.05])

The victim is asked nothing: no forward and no backward pass is spent. On another victim than the
generator's threat model this is a transfer attack.

Source: Chang et al., arXiv 2402.01227.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.attacks.base import AttackState, BaseAttack, LogitsFn, freeze_done
from jaxser.attacks.generator import ALL_TARGETS, Generator
from jaxser.attacks.hyperparameters import check_choice
from jaxser.attacks.projections import clip_to_bounds
from jaxser.runtime.errors import UsageError

__all__ = ["StaaNet", "shifted"]


@dataclasses.dataclass(frozen=True)
class StaaNet(BaseAttack):
    """The perturbation that a generator makes, clipped to the bounds (the authors did not clip).

    ε bounds the change of a sample. A generator gets ε as an input where it was trained for a
    range of it; else ε scales what it makes. ``y`` is used by a generator of all targets alone.

    Attributes:
      generator: from :func:`jaxser.load_generator`.
      compat: "paper": as the authors' code, which adds the perturbation not to the speech but to
        what its network reads of it, cut to the speech's length: speech that begins with its own
        mirror image (0.38 s, at 16 kHz and the published size) and lacks its end. Whatever ε is,
        the change is as large as speech.

    Examples:
      A network that would move every sample by ε, downwards, and chooses the first alone.
      :func:`jaxser.load_generator` reads a trained one.

      >>> import numpy as np, jax.numpy as jnp
      >>> import jaxser
      >>> from jaxser.attacks.generator import Generator
      >>> def network(variables, x, target, epsilon):
      ...     return jnp.float32([[5.0, -5.0]]) + 0 * x, -9 + 0 * x  # where, and how far
      >>> generator = Generator(network, {}, 2, 16_000, ("anger", "joy"), (0.1, 0.1))
      >>> attack = jaxser.attacks.StaaNet(generator=generator)
      >>> x = np.float32([[0.3, -0.1]])
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.5])
      >>> print(result.success[:, 0], result.x_adv[1, 0].round(2))
      [False  True] [-0.2 -0.1]
    """

    name: ClassVar[str] = "staanet"

    generator: Generator | None = None
    compat: Literal["paper"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator is None:
            raise UsageError(
                "staanet needs a trained generator: give its run folder, as generator=FOLDER."
            )
        check_choice(self.name, "compat", self.compat, (None, "paper"))
        if self.compat == "paper" and not self.generator.shift:
            raise UsageError(
                f"{self.name}: compat='paper' shifts speech by what the generator reflects before "
                f"it, and {self.generator.name} reflects nothing; train one with "
                "--generator.padding valid, or leave compat out."
            )
        if self.targeted != (self.generator.target is not None):
            raise UsageError(
                f"the generator {self.generator.name} was trained to reach "
                f"{'any label' if self.generator.target == ALL_TARGETS else self.generator.target};"
                " give that target."
                if self.generator.target is not None
                else f"the generator {self.generator.name} was trained to leave the prediction; "
                "leave the target out."
            )

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def _network(self) -> Generator:
        assert self.generator is not None  # __post_init__ has seen to that
        return self.generator

    @property
    def variables(self) -> Any:
        return self._network.variables

    def with_variables(self, variables: Any) -> "StaaNet":
        """See :class:`jaxser.attacks.base.NetworkAttack`."""
        network = dataclasses.replace(self._network, variables=variables)
        return dataclasses.replace(self, generator=network)

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """The whole attack.

        Raises:
          InputError: inputs of another length than the generator's.
        """
        del logits_fn
        target = state.y if self._network.target == ALL_TARGETS else None
        delta = self._network.perturbation(state.x, state.epsilon, target)
        base = state.x if self.compat is None else shifted(state.x, self._network.shift)
        new = dataclasses.replace(
            state,
            x_adv=clip_to_bounds(base + delta, state.x, self.bounds),
            done=jnp.ones_like(state.done),
            steps=state.steps + 1,
        )
        return freeze_done(state, new)


def shifted(x: Float[Array, "batch time"], by: int) -> Float[Array, "batch time"]:
    """``x`` moved ``by`` samples later, with its mirror image before it and its end cut off."""
    return jnp.pad(x, ((0, 0), (by, 0)), mode="reflect")[:, : x.shape[1]]
