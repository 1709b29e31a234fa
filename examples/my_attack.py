"""An attack of one's own: PGD that changes loud samples more than quiet ones, beside PGD and noise.

    python examples/my_attack.py

A step takes the state of a batch to the next; every row has its own ε and its own random key. The
driver calls it for all rows, budgets and devices, and scores what comes out.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

import jaxser
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.iterated_gradient import finish_step
from jaxser.attacks.projections import clip_to_bounds


@dataclasses.dataclass(frozen=True)
class LoudPGD(jaxser.attacks.BaseAttack):
    """ε is the largest change of the loudest sample; silence stays silent.

    Attributes:
      steps: gradients.
    """

    name: ClassVar[str] = "loudpgd"

    steps: int = 20

    @property
    def max_steps(self):
        return self.steps

    def step(self, logits_fn, state):
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        loudness = jnp.abs(state.x)
        room = state.epsilon[:, None] * loudness / loudness.max(axis=1, keepdims=True)
        moved = state.x_adv + room / 4 * jnp.sign(found.gradient)
        moved = state.x + jnp.clip(moved - state.x, -room, room)
        moved = clip_to_bounds(moved, state.x, self.bounds)
        return finish_step(state, moved, found, steps=self.steps, early_stop=False)


def pitch_of_tones(x):
    """[batch, time] -> [batch, 2]: is there more at 1 kHz than at 500 Hz?"""
    time = jnp.arange(x.shape[1]) / 16_000
    waves = jnp.exp(2j * jnp.pi * jnp.array([[500.0], [1_000.0]]) * time[None])
    return jnp.abs(x @ waves.T) / 10


if __name__ == "__main__":
    time, rng = np.arange(4_000) / 16_000, np.random.default_rng(0)
    low, high = np.sin(2 * np.pi * np.array([[500], [1_000]]) * time)
    mixed = rng.uniform(0.1, 0.3, (32, 2)) @ [low, high]
    for attack in (jaxser.attacks.Noise(), LoudPGD(), jaxser.attacks.PGD()):
        print(jaxser.run_attack(pitch_of_tones, np.float32(mixed), None, attack, [0.01, 0.05]))
