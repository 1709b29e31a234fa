"""ART's line search for the step size: halve it until the loss falls, or double it while it falls.

    trials = line_search(attempt, rate, loss, distance, hinge, searching, 5, 5)
    variable = variable + trials.best_rate * direction        # zero where no rate lowered the loss

Every row searches on its own; a batch takes as many forward passes as its slowest row. Source: the
Adversarial Robustness Toolbox 1.20.1, ``CarliniL2Method``.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Trial", "Trials", "line_search"]

# Loss, distance and hinge of the points at the given rates.
Trial = Callable[
    [Float[Array, " batch"]],
    tuple[Float[Array, " batch"], Float[Array, " batch"], Float[Array, " batch"]],
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trials:
    """A line search under way: what each row has tried, and the best of it.

    ``loss`` and ``distance`` are the last trial's, ``best_*`` those of the trial with the lowest
    loss; ``best_rate`` is zero where none lowered it. ``lowered`` and ``lowest`` say of the last
    trial whether its loss is below that of the start, and whether none before was lower. They are
    kept, not asked again of the losses: a compiler may compute a loss twice and round it otherwise.
    """

    rate: Float[Array, " batch"]
    halvings: Int[Array, " batch"]
    doublings: Int[Array, " batch"]
    halved: Bool[Array, " batch"]
    lowered: Bool[Array, " batch"]
    lowest: Bool[Array, " batch"]
    loss: Float[Array, " batch"]
    distance: Float[Array, " batch"]
    best_rate: Float[Array, " batch"]
    best_loss: Float[Array, " batch"]
    best_distance: Float[Array, " batch"]
    best_hinge: Float[Array, " batch"]


def line_search(
    attempt: Trial,
    rate: Float[Array, " batch"],
    loss: Float[Array, " batch"],
    distance: Float[Array, " batch"],
    hinge: Float[Array, " batch"],
    searching: Bool[Array, " batch"],
    max_halving: int,
    max_doubling: int,
) -> Trials:
    """Halve the rate until the loss falls; if it fell at once, double the rate while it falls.

    Rows try at the same time, each what it needs next, until none needs another trial.

    Args:
      attempt: what there is at other rates; one forward pass.
      rate: to try first.
      loss, distance, hinge: at the start.
      searching: rows that search; the others keep what they have.
      max_halving, max_doubling: largest numbers of either.
    """

    def wanted(trials: Trials) -> tuple[Bool[Array, " batch"], Bool[Array, " batch"]]:
        halve = ~trials.halved & (trials.halvings < max_halving) & ~trials.lowered
        double = ~halve & (trials.halvings == 1) & (trials.doublings < max_doubling)
        return halve & searching, double & trials.lowest & searching

    def unfinished(trials: Trials) -> Bool[Array, ""]:
        halve, double = wanted(trials)
        return (halve | double).any()

    def another(trials: Trials) -> Trials:
        halve, double = wanted(trials)
        active = halve | double
        # ART's rate is halved after every trial of the first phase, so it first catches up.
        doubled = jnp.where(double, 2 * trials.rate, trials.rate)
        tried = jnp.where(double & (trials.doublings == 0), 2 * doubled, doubled)
        new_loss, new_distance, new_hinge = attempt(tried)
        lower = active & (new_loss < trials.best_loss)
        return Trials(
            rate=jnp.where(halve, tried / 2, jnp.where(double, tried, trials.rate)),
            halvings=trials.halvings + halve,
            doublings=trials.doublings + double,
            halved=trials.halved | ~halve,
            # Not the less-than: a loss that is NaN ends the halving, as it ends ART's loop.
            lowered=jnp.where(active, ~(new_loss >= loss), trials.lowered),
            lowest=jnp.where(active, new_loss <= trials.best_loss, trials.lowest),
            loss=jnp.where(active, new_loss, trials.loss),
            distance=jnp.where(active, new_distance, trials.distance),
            best_rate=jnp.where(lower, tried, trials.best_rate),
            best_loss=jnp.where(lower, new_loss, trials.best_loss),
            best_distance=jnp.where(lower, new_distance, trials.best_distance),
            best_hinge=jnp.where(lower, new_hinge, trials.best_hinge),
        )

    # A while_loop over the batch, since the number of trials depends on the rows' losses; a row
    # that needs none keeps its numbers while the others go on.
    none = jnp.zeros(loss.shape, jnp.int32)
    trials = jax.lax.while_loop(
        unfinished,
        another,
        Trials(
            rate=rate,
            halvings=none,
            doublings=none,
            halved=jnp.zeros(loss.shape, bool),
            lowered=jnp.isnan(loss),
            lowest=jnp.ones(loss.shape, bool),
            loss=loss,
            distance=distance,
            best_rate=jnp.zeros_like(loss),
            best_loss=loss,
            best_distance=distance,
            best_hinge=hinge,
        ),
    )
    # A row that never doubled still has the last halving to undo.
    rate = jnp.where(trials.doublings == 0, 2 * trials.rate, trials.rate)
    return dataclasses.replace(trials, rate=jnp.where(trials.halvings == 1, rate / 2, rate))
