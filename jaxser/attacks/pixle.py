"""Pixle: samples of the input are copied over others until the prediction changes.

    attack = Pixle()                                             # 20 restarts of 10 patches
    attack = Pixle(x_dimensions=(0.1, 0.2), mapping="similarity", update_each_iteration=True)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[10, 100, 1000])

Source: Pomponi et al., "Pixle", IJCNN 2022, algorithm 1 and section III. A random patch of the
clean input is read, and each of its samples is written to another place of the best input so far.
Values are never made up, so their size has no bound unless ``amplitude`` sets one, which cuts off
what goes beyond it; what counts is how many samples change, and ε is that number (L0). On images a
sample is a pixel with all its channels; on waveforms a patch is an interval.
"""

import dataclasses
import math
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row
from jaxser.attacks.score import (
    candidate_scores,
    scored_start,
    shared_out,
    uniform_index,
)
from jaxser.attacks.sparse import SparseAttack, amplitude_box
from jaxser.runtime.errors import InputError, UsageError

__all__ = ["PixelMapping", "Pixle", "PixleState", "copy_patch", "destinations"]

PixelMapping = Literal["random", "similarity", "similarity_random", "distance", "distance_random"]

Side = tuple[int | float, int | float]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PixleState(AttackState):
    """The search; ``x_adv`` is the clean input until there is a success.

    Attributes:
      base: the input that patches are written to.
      best: the best input so far; the next ``base``.
      score: of ``best``; lower is closer to success.
    """

    base: Float[Array, "batch ..."]
    best: Float[Array, "batch ..."]
    score: Float[Array, " batch"]


def destinations(
    uniform: Float[Array, " pixels"],
    mapping: PixelMapping,
    patch: Int[Array, " pixels"],
    source: Float[Array, "positions channels"],
    base: Float[Array, "positions channels"],
) -> Int[Array, " pixels"]:
    """Where each pixel of a patch goes, all but to its own place.

    Args:
      uniform: a random number in [0, 1) for each pixel.
      mapping: "random": anywhere. "similarity" and "distance": where ``base`` is the most like
        the pixel, or the least, by the mean absolute difference over channels (pixels equal to it
        are passed over by "similarity"). With "_random": drawn with the softmax of that.
      patch: positions of the pixels in ``source``.
    """
    if mapping == "random":
        return uniform_index(uniform, source.shape[0])

    def one(pixel: tuple[Array, Array]) -> Int[Array, ""]:
        uniform, position = pixel
        weight = jnp.abs(base - source[position][None]).mean(axis=1)
        if mapping.startswith("similarity"):
            weight = jnp.where(weight == 0, 0.0, 1 / (1 + weight))
        weight = jnp.where(jnp.arange(weight.shape[0]) == position, -jnp.inf, weight)
        if not mapping.endswith("random"):
            return jnp.argmax(weight).astype(jnp.int32)
        mass = jnp.cumsum(jnp.exp(weight - weight.max()))
        drawn = jnp.searchsorted(mass, uniform * mass[-1], side="right")
        return jnp.minimum(drawn, mass.shape[0] - 1).astype(jnp.int32)

    # One pixel at a time: patches of images have thousands, each with a weight per position.
    chosen: Array = jax.lax.map(one, (uniform, patch))
    return chosen


def copy_patch(
    source: Float[Array, "positions channels"],
    base: Float[Array, "positions channels"],
    patch: Int[Array, " pixels"],
    to: Int[Array, " pixels"],
    valid: Bool[Array, " pixels"],
) -> Float[Array, "positions channels"]:
    """``base`` with the valid pixels of ``source`` copied; the last one wins a shared place."""
    positions = source.shape[0]
    # A scatter with equal indices has no order that all backends keep, so all but the last pixel of
    # a shared place, and those that are not valid, are sent out of range, where they are dropped.
    to = jnp.where(valid, to, positions)
    rank = jnp.arange(to.shape[0])
    last = jnp.full((positions + 1,), -1).at[to].max(rank)
    to = jnp.where(last[to] == rank, to, positions)
    return base.at[to].set(source[patch], mode="drop")


@dataclasses.dataclass(frozen=True)
class Pixle(MinimalNormAttack, SparseAttack):
    """Rearranging pixels, by restarts of independent patches or patch upon patch.

    A restart tries ``iterations`` patches on the same input and goes on from the best input so
    far; its patches are independent, so ``candidates`` of them share a forward pass, and of
    several successes the first counts. With ``update_each_iteration`` every patch is tried on
    the result of those before. It runs once per utterance; ``bounds`` play no part.

    Attributes:
      x_dimensions: shortest and longest patch along the last position axis (time of a waveform,
        mels, width): whole numbers are samples, fractions shares of the axis.
      y_dimensions: along the first of two position axes (frames, height).
      mapping: where pixels go; see :func:`destinations`.
      restarts: rounds; 1 with ``update_each_iteration``, whatever is given.
      iterations: patches per restart.
      update_each_iteration: keep a patch as soon as it lowers the score.
      candidates: patches of a row in one forward pass at most.
      compat: "torchattacks": destinations are transposed (so inputs must be square), the last row
        and column are never drawn, and a restart goes on from its last patch while none has
        lowered the score, as there.

    Examples:
      No value is new: samples are copied to other places.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> result = jaxser.run_attack(lambda x: x, x, [0], jaxser.attacks.Pixle(), [2])
      >>> result.success[0, 0].item(), set(result.x_adv[0, 0].tolist()) <= set(x[0].tolist())
      (True, True)
    """

    name: ClassVar[str] = "pixle"

    x_dimensions: Side = (2, 10)
    y_dimensions: Side = (2, 10)
    mapping: PixelMapping = "random"
    restarts: int = 20
    iterations: int = 10
    update_each_iteration: bool = False
    candidates: int = 20
    compat: Literal["torchattacks"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            restarts=self.restarts,
            iterations=self.iterations,
            candidates=self.candidates,
        )
        for name in ("x_dimensions", "y_dimensions"):
            low, high = getattr(self, name)
            if not all(_is_side(value) for value in (low, high)) or low > high:
                raise UsageError(
                    f"{self.name}: {name} must be (shortest, longest) in whole samples or in "
                    f"shares of the axis between 0 and 1, not {(low, high)!r}."
                )
        if self.mapping not in get_args(PixelMapping):
            known = ", ".join(get_args(PixelMapping))
            raise UsageError(f"{self.name}: mapping must be one of {known}, not {self.mapping!r}.")
        check_choice(self.name, "compat", self.compat, (None, "torchattacks"))

    @property
    def steps_per_restart(self) -> int:
        return self._shared_out[0]

    @property
    def max_steps(self) -> int:
        return self.steps_per_restart * (1 if self.update_each_iteration else self.restarts)

    @property
    def epsilon_norm(self) -> Norm:
        return "l0"

    @property
    def forward_rows(self) -> int:
        return self._shared_out[1]

    @property
    def _shared_out(self) -> tuple[int, int]:
        """Forward passes of a restart, and the patches of each."""
        # Where patches build upon each other, no two can share a pass.
        return shared_out(self.iterations, 1 if self.update_each_iteration else self.candidates)

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> PixleState:
        """The clean input's score; one forward pass."""
        height, width, _ = _grid(x.shape[1:])
        if self.compat is not None and height != width:
            raise InputError(
                f"{self.name}: compat='torchattacks' exchanges rows and columns, so it takes "
                f"square inputs only, not {x.shape[1:]}; leave compat out."
            )
        state = new_state(keys, x, y, epsilon)
        return scored_start(state, PixleState, logits_fn, self.targeted, base=x, best=x)

    def step(self, logits_fn: LogitsFn, state: PixleState) -> PixleState:
        """The next few patches of a restart."""
        batch, count = state.x.shape[0], self.forward_rows
        grid = _grid(state.x.shape[1:])
        at = state.steps % self.steps_per_restart
        _, (rows, cols) = self._patch_sides(grid)
        draws = jax.vmap(lambda key: jax.random.uniform(key, (count, 4 + rows * cols)))(
            step_keys(state.keys, state.steps + 1)
        )
        flat = (batch, grid[0] * grid[1], grid[2])
        tried = jax.vmap(
            jax.vmap(self._candidate, in_axes=(0, None, None, None)), in_axes=(0, 0, 0, None)
        )(draws, state.x.reshape(flat), state.base.reshape(flat), grid)
        tried = tried.reshape(batch, count, *state.x.shape[1:])
        clean = state.x[:, None]
        tried = clip_to_bounds(tried, clean, amplitude_box(clean, None, self.amplitude))
        logits = logits_fn(tried.reshape(batch * count, *state.x.shape[1:]))
        scores, success, flags = candidate_scores(logits, state.y, self.targeted)
        # The last patches of a restart may be fewer than fit into a forward pass.
        wanted = (at * count)[:, None] + jnp.arange(count)[None, :] < self.iterations
        success, scores = success & wanted, jnp.where(wanted, scores, jnp.inf)

        found = success.any(axis=1)
        pick = jnp.where(found, jnp.argmax(success, axis=1), jnp.argmin(scores, axis=1))
        chosen = jnp.take_along_axis(tried, per_row(pick, tried), axis=1)[:, 0]
        score = jnp.take_along_axis(scores, pick[:, None], axis=1)[:, 0]
        better = found | (score < state.score)
        best = jnp.where(per_row(better, chosen), chosen, state.best)
        over = ((at + 1) * count >= self.iterations) | self.update_each_iteration
        base = jnp.where(per_row(over, best), best, state.base)
        if self.compat == "torchattacks" and not self.update_each_iteration:
            # `best` is the clean input, bit for bit, as long as nothing has lowered the score.
            untouched = (best == state.x).all(axis=tuple(range(1, best.ndim)))
            last = (self.iterations - 1) % count
            base = jnp.where(per_row(over & untouched, base), tried[:, last], base)
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(found, chosen), chosen, state.x_adv),
            base=base,
            best=best,
            score=jnp.where(better, score, state.score),
            done=found | (state.steps + 1 >= self.max_steps),
            steps=state.steps + 1,
            queries=state.queries + wanted.sum(axis=1),
            flags=state.flags | flags,
        )
        return freeze_done(state, new)

    def _candidate(
        self,
        draws: Float[Array, " numbers"],
        x: Float[Array, "positions channels"],
        base: Float[Array, "positions channels"],
        grid: tuple[int, int, int],
    ) -> Float[Array, "positions channels"]:
        """``base`` with one random patch of ``x`` copied over it."""
        height, width, _ = grid
        unreached = 0 if self.compat is None else 1
        shortest, longest = (jnp.asarray(sides) for sides in self._patch_sides(grid))
        side = shortest + uniform_index(draws[:2], longest - shortest + 1)
        limit = jnp.maximum(jnp.asarray((height, width)) - unreached, 1)
        top, left = uniform_index(draws[2:4], limit)
        rows, cols = (each.reshape(-1) for each in jnp.indices(self._patch_sides(grid)[1]))
        # Sides are traced, shapes are not: every patch has the pixels of the largest, of which some
        # are not valid. A patch that would reach past the end is cut.
        valid = (rows < side[0]) & (cols < side[1])
        valid &= (top + rows < height) & (left + cols < width)
        patch = jnp.where(valid, (top + rows) * width + left + cols, 0)
        if self.compat is not None and self.mapping == "random":
            to = uniform_index(draws[4:], limit[0] * limit[1])
            to = to // limit[1] * width + to % limit[1]
        else:
            to = destinations(draws[4:], self.mapping, patch, x, base)
        if self.compat is not None:
            to = to % width * width + to // width
        return copy_patch(x, base, patch, to, valid)

    def _patch_sides(self, grid: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of the smallest and of the largest patch."""

        def samples(value: int | float, length: int) -> int:
            count = value if isinstance(value, int) else round(value * length)
            return min(max(1, count), length)

        low_y, low_x = (
            samples(self.y_dimensions[0], grid[0]),
            samples(self.x_dimensions[0], grid[1]),
        )
        high_y, high_x = (
            samples(self.y_dimensions[1], grid[0]),
            samples(self.x_dimensions[1], grid[1]),
        )
        return (low_y, low_x), (max(low_y, high_y), max(low_x, high_x))


def _is_side(value: int | float) -> bool:
    """Whether a side is a whole number of samples or a share of the axis."""
    return value > 0 if isinstance(value, int) else 0 <= value <= 1


def _grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An input as height, width and channels; a waveform is one line."""
    if len(shape) == 1:
        return 1, shape[0], 1
    return shape[0], shape[1], math.prod(shape[2:])
