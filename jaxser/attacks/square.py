"""Square attack: random search over windows, from scores alone.

    attack = Square(queries=1000)                                # L∞, ε is a sample value
    attack = Square(norm="l2", queries=5000)                     # ε is the L2 norm
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.01])

Source: Andriushchenko et al., "Square Attack", ECCV 2020, algorithms 1 to 3. Each query changes
one window of the best input so far and keeps the change where the loss falls; windows shrink by
the paper's schedule. Every row has its own window, signs and place in the schedule. Spectrograms
``[batch, frames, mels]`` and images ``[batch, height, width, channels]`` have square windows (a
side that would not fit gives its area to the other); waveforms ``[batch, time]``, which the paper
does not treat, have intervals of the same share of the samples.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import (
    NON_FINITE,
    AttackState,
    BaseAttack,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.losses import is_successful, log_odds, margin_loss, prediction
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row
from jaxser.attacks.score import uniform_index
from jaxser.attacks.square_windows import bump_table, bumps, halvings, scheduled_sides
from jaxser.runtime.errors import UsageError

__all__ = ["Square", "SquareState"]

# The L2 attack starts from so many tiles along the shorter side.
_TILES = 5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SquareState(AttackState):
    """The search of the current restart.

    Attributes:
      iterate: best input of this restart; ``x_adv`` is the best of all.
      iterate_loss: its loss, to descend.
      loss: that of ``x_adv``.
    """

    iterate: Float[Array, "batch ..."]
    iterate_loss: Float[Array, " batch"]
    loss: Float[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class Square(BaseAttack):
    """Square attack in the L∞ or the L2 ball.

    The first forward pass is of the clean input (a row that is a success already is done), the
    second of the starting pattern, then one per query. A row is done at its first success.

    Attributes:
      norm: "linf", or "l2" (ε is the L2 norm of the whole perturbation).
      queries: windows tried per restart.
      restarts: independent searches; a row keeps the best of them.
      share: of the input that the first window covers (the paper's p).
      rescale_schedule: stretch the schedule over ``queries``, as the paper and torchattacks do;
        else it is that of 10,000 queries, cut short, as in AutoAttack.
      loss: "margin" or "cross_entropy"; None: the margin, or cross-entropy when targeted, as in
        the paper. Cross-entropy is compared by its log-odds, which order inputs the same way and
        do not saturate.
      block: length of the runs of one sign (L∞) or, at least 2, of the pairs of bumps (L2) that
        a waveform starts from, where spectrograms and images start from stripes along the first
        axis or from tiles. At 1, the stripes of a waveform are random signs.
      compat: "torchattacks": windows never reach the last row and column, and a sign that changes
        nothing is tried all the same, as there.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.2 is the smallest change in L∞
      >>> attack = jaxser.attacks.Square(queries=50)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist(), result.gradients[1, 0].item()
      ([False, True], 0)
    """

    name: ClassVar[str] = "square"

    norm: Norm = "linf"
    queries: int = 5000
    restarts: int = 1
    share: float = 0.8
    rescale_schedule: bool = True
    loss: Literal["margin", "cross_entropy"] | None = None
    block: int = 1
    compat: Literal["torchattacks"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            queries=self.queries,
            restarts=self.restarts,
            share=self.share,
            block=self.block,
        )
        check_choice(self.name, "norm", self.norm, ("linf", "l2"))
        if self.share > 1:
            raise UsageError(f"{self.name}: share must be at most 1, not {self.share!r}.")
        check_choice(self.name, "loss", self.loss, (None, "margin", "cross_entropy"))
        check_choice(self.name, "compat", self.compat, (None, "torchattacks"))

    @property
    def max_steps(self) -> int:
        return 1 + self.restarts * (self.queries + 1)

    @property
    def finishes_early(self) -> bool:
        return True

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> SquareState:
        """The clean input, whose forward pass is the first step's."""
        state = new_state(keys, x, y, epsilon)
        worst = jnp.full(x.shape[:1], jnp.inf)
        return extended(state, SquareState, iterate=x, iterate_loss=worst, loss=worst)

    def step(self, logits_fn: LogitsFn, state: SquareState) -> SquareState:
        """One query."""
        # 0: the clean input; then, per restart, the starting pattern and the windows.
        clean = state.steps == 0
        place = jnp.maximum(state.steps - 1, 0) % (self.queries + 1)
        starting = ~clean & (place == 0)
        tried = self._proposal(state, clean, starting, place - 1)
        logits = logits_fn(tried).astype(jnp.float32)
        predicted = prediction(logits)
        finite = predicted >= 0
        success = is_successful(predicted, state.y, self.targeted)
        loss = jnp.where(finite, self._loss(logits, state.y), jnp.inf)

        # A success is kept whatever its loss: a tie of two classes is one, or none.
        improved = success | starting | clean | (loss < state.iterate_loss)
        best = success | (loss < state.loss)
        new = dataclasses.replace(
            state,
            iterate=jnp.where(per_row(improved, tried), tried, state.iterate),
            iterate_loss=jnp.where(improved, loss, state.iterate_loss),
            x_adv=jnp.where(per_row(best, tried), tried, state.x_adv),
            loss=jnp.where(best, loss, state.loss),
            done=success | (state.steps + 1 >= self.max_steps),
            steps=state.steps + 1,
            queries=state.queries + 1,
            flags=state.flags | (NON_FINITE * ~finite).astype(jnp.uint32),
        )
        return freeze_done(state, new)

    def _loss(
        self, logits: Float[Array, "batch classes"], y: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """What the search descends."""
        kind = self.loss or ("cross_entropy" if self.targeted else "margin")
        against = (margin_loss if kind == "margin" else log_odds)(logits, y)
        return against if self.targeted else -against

    def _proposal(
        self,
        state: SquareState,
        clean: Bool[Array, " batch"],
        starting: Bool[Array, " batch"],
        query: Int[Array, " batch"],
    ) -> Float[Array, "batch ..."]:
        """The input that each row tries."""
        grid = _grid(state.x.shape[1:])
        x = state.x.reshape(-1, *grid)
        delta = state.iterate.reshape(x.shape) - x
        keys = step_keys(state.keys, state.steps + 1)
        level = halvings(jnp.maximum(query, 0), self.queries, self.rescale_schedule)
        sides = scheduled_sides(*grid[:2], self.share, self.norm)[level]
        if self.norm == "linf":
            moved = jax.vmap(self._linf_window)(keys, x, delta, state.epsilon, sides)
        else:
            table = jnp.asarray(bump_table(max(grid[:2])), jnp.float32)
            moved = jax.vmap(self._l2_window, in_axes=(0, 0, 0, 0, None))(
                keys, delta, state.epsilon, sides, table
            )

        def with_start() -> Array:
            pattern = jax.vmap(lambda key: self._start(key, state.x.shape[1:]))(keys)
            pattern = pattern.reshape(x.shape) * per_row(state.epsilon, x)
            return jnp.where(per_row(starting, x), pattern, moved)

        # Few queries start a search, and random patterns cost as much as the rest of the proposal.
        moved = jax.lax.cond(starting.any(), with_start, lambda: moved)
        moved = jnp.where(per_row(clean, x), 0.0, moved)
        return clip_to_bounds(x + moved, x, self.bounds).reshape(state.x.shape)

    def _corner(
        self, draws: Float[Array, "2"], grid: tuple[int, ...], sides: Int[Array, "2"]
    ) -> tuple[Int[Array, "height 1"], Int[Array, "1 width"], Bool[Array, "height width 1"]]:
        """A random window: rows and columns counted from its corner, and where it is."""
        room = jnp.asarray(grid[:2]) - sides + (0 if self.compat == "torchattacks" else 1)
        corner = uniform_index(draws, jnp.maximum(room, 1))
        row = jnp.arange(grid[0])[:, None] - corner[0]
        col = jnp.arange(grid[1])[None, :] - corner[1]
        inside = (row >= 0) & (row < sides[0]) & (col >= 0) & (col < sides[1])
        return row, col, inside[..., None]

    def _linf_window(
        self,
        key: Key[Array, ""],
        x: Float[Array, "height width channels"],
        delta: Float[Array, "height width channels"],
        epsilon: Float[Array, ""],
        sides: Int[Array, "2"],
    ) -> Float[Array, "height width channels"]:
        """Algorithm 2: one window of ±ε, one sign per channel."""
        draws = jax.random.uniform(key, (2 + x.shape[2],))
        *_, inside = self._corner(draws[:2], x.shape, sides)
        sign = _signs(draws[2:])
        if self.compat is None:
            # A sign that leaves the input as it is would waste the query.
            tried = clip_to_bounds(x + epsilon * sign[None, None], x, self.bounds)
            same = (jnp.abs(tried - x - delta) < 1e-7) | ~inside
            sign = jnp.where(same.all(), -sign, sign)
        return jnp.where(inside, epsilon * sign[None, None], delta)

    def _l2_window(
        self,
        key: Key[Array, ""],
        delta: Float[Array, "height width channels"],
        epsilon: Float[Array, ""],
        sides: Int[Array, "2"],
        table: Float[Array, " sizes"],
    ) -> Float[Array, "height width channels"]:
        """Algorithm 3: the norm of a second window, and what clipping freed, go into the first."""
        draws = jax.random.uniform(key, (5 + delta.shape[2],))
        row, col, inside = self._corner(draws[:2], delta.shape, sides)
        *_, emptied = self._corner(draws[2:4], delta.shape, sides)

        def energy(part: Array) -> Float[Array, " channels"]:
            return jnp.where(part, jnp.square(delta), 0.0).sum(axis=(0, 1))

        # Where one side is too short to be halved, the bumps lie along the other.
        across = jnp.where(sides.min() < 2, sides[1] > sides[0], draws[4] < 0.5)
        pattern = bumps(row, col, (sides[0], sides[1]), across, table)[..., None]
        pattern = pattern * _signs(draws[5:])[None, None]
        old = delta / jnp.maximum(jnp.sqrt(energy(inside)), 1e-10)[None, None]
        mixed = jnp.where(inside, pattern + old, 0.0)
        mixed /= jnp.maximum(jnp.sqrt(jnp.square(mixed).sum(axis=(0, 1))), 1e-10)[None, None]
        unused = jnp.maximum(jnp.square(epsilon) - jnp.square(delta).sum(), 0.0)
        norm = jnp.sqrt(unused / delta.shape[2] + energy(inside | emptied))
        moved = jnp.where(inside, mixed * norm[None, None], jnp.where(emptied, 0.0, delta))
        return moved * epsilon / jnp.maximum(jnp.sqrt(jnp.square(moved).sum()), 1e-10)

    def _start(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The starting pattern for ε = 1."""
        height, width, channels = _grid(shape)
        if self.norm == "linf":
            if len(shape) > 1:
                stripes = _signs(jax.random.uniform(key, (1, width, channels)))
                return jnp.broadcast_to(stripes, (height, width, channels))
            blocks = _signs(jax.random.uniform(key, (-(-height // self.block),)))
            return jnp.repeat(blocks, self.block)[:height]
        side = max(2, min(height, width) // _TILES)
        tile = (side, side) if len(shape) > 1 else (min(max(2, self.block), height), 1)
        down, right = max(1, height // tile[0]), max(1, width // tile[1])
        tile = (min(tile[0], height), min(tile[1], width))
        draws = jax.random.uniform(key, (down, 1, right, 1, channels + 1))
        table = jnp.asarray(bump_table(max(tile)), jnp.float32)
        row, col = jnp.arange(tile[0])[:, None], jnp.arange(tile[1])[None, :]
        one_way, other_way = (
            bumps(row, col, (jnp.asarray(tile[0]), jnp.asarray(tile[1])), across, table)
            for across in (jnp.asarray(tile[0] < 2), jnp.asarray(tile[1] >= 2))
        )
        tiles = jnp.where(
            draws[..., 0] < 0.5, other_way[None, :, None, :], one_way[None, :, None, :]
        )
        tiles = tiles[..., None] * _signs(draws[..., 1:])
        pattern = tiles.reshape(down * tile[0], right * tile[1], channels)
        above, left = (height - pattern.shape[0]) // 2, (width - pattern.shape[1]) // 2
        below, after = height - pattern.shape[0] - above, width - pattern.shape[1] - left
        pattern = jnp.pad(pattern, ((above, below), (left, after), (0, 0)))
        return pattern / jnp.sqrt(jnp.square(pattern).sum())


def _grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An input as height, width and channels; a waveform is one column."""
    if len(shape) == 1:
        return shape[0], 1, 1
    return shape[0], shape[1], math.prod(shape[2:])


def _signs(uniform: Float[Array, "..."]) -> Float[Array, "..."]:
    """±1 from uniform numbers in [0, 1)."""
    return jnp.where(uniform < 0.5, 1.0, -1.0)
