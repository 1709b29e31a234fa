"""SparseFool: few samples moved as far as it takes, on the way to DeepFool's boundary.

    attack = SparseFool()                                        # the authors' algorithm
    attack = SparseFool(variant="torchattacks", lam=10.0)        # as STAA-Net's baseline ran it
    attack = SparseFool(amplitude=0.05)                          # none of them by more than that
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[10, 100, 1000])
    result.measures["l0"]            # changed samples; ε is their number

Source: Modas, Moosavi-Dezfooli, Frossard, CVPR 2019, algorithms 1 and 2 and section 3.3 (λ). Each
round looks for the boundary with L2-DeepFool, takes the victim's gradient there as the normal of
a plane, and lets the samples with the largest |normal| go to their bounds, or as far as
``amplitude`` allows, until the plane is passed. ``epsilon_norm`` is "l0": the algorithm minimises
an L1 norm as the convex stand-in for the number of changed samples, which is what the paper
reports and users ask for.

A round is several steps, one Jacobian each: rows that look for the boundary and rows that are
about to solve for the plane sit in the same batch.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.hyperplane import fill_largest, room_towards
from jaxser.attacks.linearisation import (
    LinearisingAttack,
    Margins,
    boundary_step,
    check_candidates,
    check_overshoot,
    class_margins,
    clean_others,
    logit_rounding,
    nearest_boundary,
    no_others,
    stuck_flags,
)
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import Box, Norm, clip_to_bounds, per_row, row_norm, unit_l2
from jaxser.attacks.sparse import SparseAttack
from jaxser.runtime.errors import UsageError

__all__ = ["SparseFool", "SparseFoolState", "solve_plane"]

# How far past the plane the last sample goes, in the input's units along the unit normal; the
# authors' and torchattacks' value.
_PAST_THE_PLANE = 1e-3

_ROUNDS = {"original": 20, "torchattacks": 10}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseFoolState(AttackState):
    """SparseFool's state.

    Attributes:
      origin: where the round started.
      point: where the victim is linearised next: DeepFool's iterate, or the boundary point.
      solving: whether ``point`` is the boundary point, whose plane comes next.
      towards: the class on the other side of the boundary.
      searched: steps DeepFool has taken in this round.
      rounds: rounds that are finished.
      others: the classes considered, the most likely of the clean input.
    """

    origin: Float[Array, "batch ..."]
    point: Float[Array, "batch ..."]
    solving: Bool[Array, " batch"]
    towards: Int[Array, " batch"]
    searched: Int[Array, " batch"]
    rounds: Int[Array, " batch"]
    others: Int[Array, "batch others"]


@dataclasses.dataclass(frozen=True)
class SparseFool(LinearisingAttack, SparseAttack):
    """SparseFool, untargeted; a step costs two forward passes and one backward per other class.

    Attributes:
      variant: "original": each round starts from the last round's result, the plane is that at
        the boundary, moved away by λ. "torchattacks": the solver starts from the clean input in
        every round, λ multiplies all of the perturbation so far (so it compounds), the normal is
        that at the λ-scaled point, and DeepFool overshoots and clips at every step. Bounds are
        those of the attack where torchattacks knows (0, 1) alone.
      steps: rounds at most; None: 20 (10 in "torchattacks").
      lam: λ, how far beyond the boundary the plane is put; larger is faster and less sparse.
      overshoot: share by which the found perturbation, and DeepFool's, is lengthened.
      deepfool_steps: steps of DeepFool per round at most.
      candidates: classes DeepFool considers, the label among them; the others are the most likely
        ones of the clean input.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # one sample that moves by 0.4 is enough
      >>> result = jaxser.run_attack(lambda x: x, x, [0], jaxser.attacks.SparseFool(), [1])
      >>> result.success[0, 0].item(), result.found_norm[0, 0].item()
      (True, 1.0)
    """

    name: ClassVar[str] = "sparsefool"

    variant: Literal["original", "torchattacks"] = "original"
    steps: int | None = None
    lam: float = 3.0
    overshoot: float = 0.02
    deepfool_steps: int = 50
    candidates: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, steps=self.steps, deepfool_steps=self.deepfool_steps)
        check_overshoot(self.name, self.overshoot)
        check_candidates(self.name, self.candidates)
        if not 1 <= self.lam < float("inf"):
            raise UsageError(f"{self.name}: lam must be at least 1 and finite, not {self.lam!r}.")
        check_choice(self.name, "variant", self.variant, ("original", "torchattacks"))

    @property
    def max_steps(self) -> int:
        return self._rounds * (self.deepfool_steps + 1)

    @property
    def epsilon_norm(self) -> Norm:
        return "l0"

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> SparseFoolState:
        """The first round's first search, from the clean input; the victim is not run yet."""
        base = new_state(keys, x, y, epsilon)
        return extended(
            base,
            SparseFoolState,
            origin=x,
            point=x,
            solving=jnp.zeros_like(base.done),
            towards=y,
            searched=base.steps,
            rounds=base.steps,
            others=no_others(logits_fn, x, self.candidates - 1),
        )

    def step(self, logits_fn: LogitsFn, state: SparseFoolState) -> SparseFoolState:
        """One step of DeepFool, or the solution for a plane, as each row needs it."""
        solving, count = state.solving, state.others.shape[1]
        here = per_row(solving, state.x)

        def choose(logits: Float[Array, "batch classes"]) -> Int[Array, "batch others"]:
            others = clean_others(logits, state.y, state.steps == 0, state.others)
            crossed = self._crossed(logits, state)
            return others.at[:, 0].set(jnp.where(solving, crossed, others[:, 0]))

        margins = class_margins(logits_fn, state.point, state.y, choose)
        # A round may start from an adversarial input: the clean one, or a solution that is one
        # without the overshoot.
        starting = ~solving & (state.searched == 0)
        already = starting & is_successful(prediction(margins.logits), state.y, False)

        searched, looked_at, towards, flat = self._search(state, margins)
        normal = margins.gradients[:, 0]
        origin, solved = self._solve(state, normal)
        candidate = jnp.where(here, solved, looked_at)
        predicted = prediction(logits_fn(candidate))
        fooled = is_successful(predicted, state.y, False) & ~already

        to_plane = ~solving & (fooled | (state.searched + 1 >= self.deepfool_steps))
        boundary = jnp.where(per_row(to_plane, searched), self._boundary(state, searched), searched)
        flat = jnp.where(solving, row_norm(normal, "linf") == 0, flat) & ~already
        rounds = state.rounds + solving
        reached = fooled & solving
        found = jnp.where(per_row(reached, solved), solved, state.x_adv)
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(already, found), state.point, found),
            origin=jnp.where(here, origin, state.origin),
            point=jnp.where(here, origin, boundary),
            solving=to_plane,
            towards=jnp.where(fooled, predicted, towards),
            searched=jnp.where(solving, 0, state.searched + 1),
            rounds=rounds,
            others=jnp.where(solving[:, None], state.others, margins.others),
            done=already | reached | flat | ~margins.finite | (rounds >= self._rounds),
            steps=state.steps + 1,
            queries=state.queries + 2,
            gradients=state.gradients + count,
            flags=state.flags | stuck_flags(flat, margins.finite),
        )
        return freeze_done(state, new)

    @property
    def _rounds(self) -> int:
        return _ROUNDS[self.variant] if self.steps is None else self.steps

    def _crossed(
        self, logits: Float[Array, "batch classes"], state: SparseFoolState
    ) -> Int[Array, " batch"]:
        """The class beyond the boundary, whose margin is the plane's."""
        if self.variant == "original":
            return state.towards
        # λ has moved the point, maybe into a third class.
        now = jnp.argmax(logits, axis=1).astype(jnp.int32)
        return jnp.where(now == state.y, state.towards, now)

    def _search(
        self, state: SparseFoolState, margins: Margins
    ) -> tuple[
        Float[Array, "batch ..."],
        Float[Array, "batch ..."],
        Int[Array, " batch"],
        Bool[Array, " batch"],
    ]:
        """DeepFool's next iterate, where to look whether it is across, and to which class.

        The last value says which rows are flat, so that there is no step.
        """
        stretch = 1.0 + self.overshoot
        if self.variant == "original":
            rounding = logit_rounding(margins.logits)[:, None]
            nearest = nearest_boundary(margins.values - rounding, margins.gradients, "l2")
            point = state.point + boundary_step(nearest, "l2")
            looked_at = state.origin + stretch * (point - state.origin)
        else:
            nearest = nearest_boundary(margins.values, margins.gradients, "l2")
            moved = state.point + stretch * boundary_step(nearest, "l2")
            point = looked_at = clip_to_bounds(moved, state.x, self.bounds)
        towards = jnp.take_along_axis(margins.others, nearest.place[:, None], axis=1)[:, 0]
        return point, looked_at, towards, nearest.flat

    def _boundary(
        self, state: SparseFoolState, point: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """Where the plane's normal is taken, once DeepFool has arrived at ``point``."""
        if self.variant == "original":
            return point
        return state.x + self.lam * (point - state.x)

    def _solve(
        self, state: SparseFoolState, normal: Float[Array, "batch ..."]
    ) -> tuple[Float[Array, "batch ..."], Float[Array, "batch ..."]]:
        """Where the next round starts, and the adversarial input to try."""
        x, stretch, box = state.x, 1.0 + self.overshoot, self.box(state.x)
        if self.variant == "original":
            offset = self.lam * (state.point - state.origin)
            delta = solve_plane(state.origin, normal, offset, x, box)
            start = clip_to_bounds(state.origin + delta, x, box)
            return start, clip_to_bounds(x + stretch * (start - x), x, box)
        offset = state.point - x
        delta = solve_plane(x, normal, offset, x, box, beyond=state.solving)
        solved = clip_to_bounds(x + stretch * delta, x, box)
        return solved, solved


def solve_plane(
    origin: Float[Array, "batch ..."],
    normal: Float[Array, "batch ..."],
    offset: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    bounds: Box,
    beyond: Bool[Array, " batch"] | None = None,
) -> Float[Array, "batch ..."]:
    """The sparse perturbation of ``origin`` that reaches the plane through ``origin + offset``.

    Samples go along the sign of the normal to their bounds, those with the largest |normal|
    first (the lower index on ties), until the plane is passed.

    Args:
      origin: where to start.
      normal: of the plane, of any length; it points across.
      offset: from ``origin`` to a point of the plane.
      x: the clean input, for values outside the bounds.
      bounds: valid range of an input, or of each sample, or None.
      beyond: rows in which torchattacks is followed where ``origin`` lies beyond the plane: its
        solver goes on along the normal, away from the plane, until no sample is left. Elsewhere,
        and without bounds, such a plane says nothing (the victim is curved), and one at the same
        distance in the direction of the normal is used.
    """
    unit = unit_l2(normal)
    weights, room = jnp.abs(unit), room_towards(unit, origin, x, bounds)
    gap = (unit * offset).sum(axis=tuple(range(1, x.ndim)))
    distance = jnp.where(gap > 0, gap, row_norm(offset, "l2"))
    amount = fill_largest(weights, room, distance, _PAST_THE_PLANE)
    if beyond is not None and bounds is not None:
        away = beyond & (gap < 0)
        amount = jnp.where(
            per_row(away, amount), _go_on(weights, room, jnp.where(away, -gap, 0.0)), amount
        )
    return jnp.sign(unit) * amount


def _go_on(
    weights: Float[Array, "batch ..."],
    room: Float[Array, "batch ..."],
    past: Float[Array, " batch"],
) -> Float[Array, "batch ..."]:
    """What torchattacks' solver does ``past`` the plane: about twice as far with every sample.

    Each sample moves by the distance to the plane over its weight, so after a few samples that
    is more than any has room for; the loop ends there and all others take their room at once.
    Rows with ``past`` 0 are not worked on.
    """
    flat, space = weights.reshape(len(weights), -1), room.reshape(len(room), -1)
    index = jnp.arange(flat.shape[1])[None, :]
    most = space.max(axis=1)
    Carry = tuple[Array, Array, Array, Array]

    def take_one(carry: Carry) -> Carry:
        left, amount, distance, active = carry
        place = jnp.argmax(left, axis=1)[:, None]
        weight = jnp.take_along_axis(left, place, axis=1)[:, 0]
        wanted = (distance + _PAST_THE_PLANE) / jnp.where(weight > 0, weight, 1.0)
        active &= (weight > 0) & (wanted < most)
        taken = (index == place) & active[:, None]
        amount = jnp.where(taken, jnp.minimum(wanted[:, None], space), amount)
        moved = jnp.where(taken, flat * amount, 0.0).sum(axis=1)
        return jnp.where(taken, 0.0, left), amount, distance + moved, active

    start = (flat, jnp.zeros_like(flat), past, past > 0)
    left, amount, _, _ = jax.lax.while_loop(lambda carry: carry[3].any(), take_one, start)
    return jnp.where(left > 0, space, amount).reshape(weights.shape)
