"""Pure steps that train STAA-Net's generator against frozen threat models.

    step = make_generator_step(generator, threats, config.generator, optimizer, key)
    state = jax.jit(step)(state, {"x": [batch, time], "y": [batch, threats]}, threat_variables)

``y`` are the classes that the threat models predict for the clean speech. Source: Chang et al.,
arXiv 2402.01227, section 3.3; what keeps a stated sparsity and SNR is in
:mod:`jaxser.training.augmented_lagrangian`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.generator import (
    ALL_TARGETS,
    Generator,
    Losses,
    adversarial_loss,
    location_scores,
    losses_of,
    magnitudes_of,
    quantise,
    soft_mask,
)
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import clip_to_bounds
from jaxser.config import GeneratorConfig
from jaxser.results.perturbation import perturbation_measures
from jaxser.training.augmented_lagrangian import (
    ascended,
    penalty,
    share_to_keep,
    snr_breach,
    sparsity_breach,
)
from jaxser.victims.victim import Victim

__all__ = [
    "BOUNDS",
    "GeneratorMetrics",
    "GeneratorState",
    "init_generator_state",
    "make_generator_evaluation",
    "make_generator_step",
]

Batch = dict[str, Array]

# Of speech, and of every victim that hears it.
BOUNDS = (-1.0, 1.0)

# Sums of the metrics: losses per step, the others per row.
_LOSSES = ("loss", "adversarial", "magnitude", "sparsity_loss", "quantisation")


@flax.struct.dataclass
class GeneratorMetrics:
    """Sums since the start of the epoch, kept on the device.

    Attributes:
      losses: of every step, by name.
      steps: taken.
      fooled: rows, over all threat models.
      changed: share of the mask that is one, summed over rows.
      rows: so far.
    """

    losses: dict[str, Float[Array, ""]]
    steps: Int[Array, ""]
    fooled: Float[Array, ""]
    changed: Float[Array, ""]
    rows: Int[Array, ""]

    @classmethod
    def zeros(cls) -> "GeneratorMetrics":
        return cls(
            losses={name: jnp.zeros((), jnp.float32) for name in _LOSSES},
            steps=jnp.zeros((), jnp.int32),
            fooled=jnp.zeros((), jnp.float32),
            changed=jnp.zeros((), jnp.float32),
            rows=jnp.zeros((), jnp.int32),
        )

    def figures(self) -> dict[str, float]:
        """Mean losses, attack success rate on the threat models, and share of changed samples."""
        steps, rows = max(int(self.steps), 1), max(int(self.rows), 1)
        return {
            **{name: float(value) / steps for name, value in self.losses.items()},
            "asr": float(self.fooled) / rows,
            "mask_rate": float(self.changed) / rows,
        }


@flax.struct.dataclass
class GeneratorState:
    """All that a step changes.

    Attributes:
      step: batches so far.
      params: of the generator.
      opt_state: of the optimiser.
      multipliers: of what is kept: "sparsity", one for each target that a generator for all is
        given and one in any other, and "snr".
      metrics: of the epoch.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: optax.OptState
    multipliers: dict[str, Float[Array, "..."]]
    metrics: GeneratorMetrics

    @property
    def variables(self) -> dict[str, Any]:
        """What the generator is applied with."""
        return {"params": self.params}


def init_generator_state(
    generator: Generator, variables: Any, optimizer: optax.GradientTransformation
) -> GeneratorState:
    """Before the first step; ``variables`` are what ``generator`` starts from."""
    groups = len(generator.labels) if generator.target == ALL_TARGETS else 1
    return GeneratorState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        opt_state=optimizer.init(variables["params"]),
        multipliers={
            "sparsity": jnp.zeros(groups, jnp.float32),
            "snr": jnp.zeros((), jnp.float32),
        },
        metrics=GeneratorMetrics.zeros(),
    )


@dataclasses.dataclass(frozen=True)
class _Made:
    """Adversarial speech on its way to the losses; ``raw`` are the locations before any limit,
    ``hard`` is the quantised mask."""

    x_adv: Float[Array, "batch time"]
    raw: Float[Array, "batch time"]
    v: Float[Array, "batch time"]
    m: Float[Array, "batch time"] | None
    d: Float[Array, "batch time"] | None
    hard: Float[Array, "batch time"] | None


def make_generator_step(
    generator: Generator,
    threats: Sequence[Victim],
    config: GeneratorConfig,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    steps_per_epoch: int = 1,
) -> Callable[[GeneratorState, Batch, Sequence[Any]], GeneratorState]:
    """The update ``(state, batch, variables of the threat models) -> state``; jit and donate it.

    Args:
      generator: what is trained; its own variables are not used.
      threats: victims, whose variables are arguments of the update.
      config: losses and what is kept.
      optimizer: of the parameters.
      key: of quantisation, targets and ε; each step folds its number in.
      steps_per_epoch: updates of an epoch, in which ``config`` counts.
    """
    annealed = config.anneal_epochs * steps_per_epoch

    # The threat models' variables are arguments: what a jitted function closes over would be
    # constants of the compiled program.
    def step(state: GeneratorState, batch: Batch, threat_variables: Sequence[Any]) -> Any:
        # Of the step's number, so that a run that was interrupted draws what one in a piece draws.
        mask_key, target_key, epsilon_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        x, y = batch["x"], batch["y"]
        epsilon = _draw_epsilon(epsilon_key, generator.epsilon, len(x))
        share = share_to_keep(config.keep_sparsity, state.step, annealed)
        target = _targets(target_key, generator, y[:, 0])
        members = _groups(generator, target, len(x))

        def loss_of(params: Any) -> tuple[Array, Any]:
            made = _make(generator, {"params": params}, x, epsilon, target, config, mask_key)
            adversarial, fooled = _on_threats(
                threats, threat_variables, made.x_adv, y, target, config.confidence
            )
            losses = losses_of(adversarial, made.v, made.m, made.d, config.reduction, config.gamma)
            breaches = _breaches(config, x, made, share, members)
            kept = penalty(breaches, state.multipliers, members.mean(axis=0))
            total = _weighted(config, losses) + kept
            rate = jnp.ones(len(x)) if made.hard is None else made.hard.mean(axis=1)
            return total, (losses, breaches, fooled, rate)

        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (total, (losses, breaches, fooled, rate)), gradients = gradient_of(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return GeneratorState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            multipliers=ascended(state.multipliers, breaches, config.multiplier_rate),
            metrics=_accumulate(state.metrics, total, losses, fooled, rate),
        )

    return step


def make_generator_evaluation(
    generator: Generator, threats: Sequence[Victim], config: GeneratorConfig
) -> Callable[..., dict[str, Array]]:
    """``(variables, batch, variables of the threat models) -> figures per row``.

    The mask is quantised. A batch has ``epsilon [batch]`` besides, and ``target [batch]`` where the
    generator reaches any class.
    """

    def evaluate(variables: Any, batch: Batch, threat_variables: Sequence[Any]) -> Any:
        x, y = batch["x"], batch["y"]
        target = batch.get("target")
        made = _make(generator, variables, x, batch["epsilon"], target, config, None)
        adversarial, fooled = _on_threats(
            threats, threat_variables, made.x_adv, y, target, config.confidence
        )
        row_losses = functools.partial(_row_losses, gamma=config.gamma)
        losses = jax.vmap(row_losses)(adversarial, made.v, made.m, made.d)
        measures = perturbation_measures(x, made.x_adv)
        return {
            "loss": _weighted(config, losses),
            "fooled": fooled,
            "sparsity": measures["sparsity"],
            "snr_peak": measures["snr_peak"],
            "snr_power": measures["snr_power"],
        }

    return evaluate


def _row_losses(adversarial: Array, *parts: Array | None, gamma: float) -> Losses:
    """Losses of one utterance."""
    v, m, d = (None if part is None else part[None] for part in parts)
    assert v is not None
    return losses_of(adversarial[None], v, m, d, "row", gamma)


def _draw_epsilon(
    key: Key[Array, ""], limits: tuple[float, float], rows: int
) -> Float[Array, " rows"]:
    """Log-uniform between the limits."""
    low, high = math.log(limits[0]), math.log(limits[1])
    return jnp.exp(jax.random.uniform(key, (rows,), minval=low, maxval=max(low, high)))


def _targets(
    key: Key[Array, ""], generator: Generator, y: Int[Array, " batch"]
) -> Int[Array, " batch"] | None:
    """The class to reach: one and the same, or any other than ``y`` at random."""
    if generator.target is None:
        return None
    classes = len(generator.labels)
    if generator.target != ALL_TARGETS:
        return jnp.full_like(y, generator.labels.index(generator.target))
    return (y + jax.random.randint(key, y.shape, 1, classes, y.dtype)) % classes


def _groups(
    generator: Generator, target: Int[Array, " batch"] | None, rows: int
) -> Float[Array, "batch groups"]:
    """Which rows keep the stated sparsity together: those of each target that is asked for.

    All rows as one would let a generator for all targets spend what is allowed on the easiest.
    """
    if generator.target == ALL_TARGETS:
        return jax.nn.one_hot(target, len(generator.labels))
    return jnp.ones((rows, 1))


def _make(
    generator: Generator,
    variables: Any,
    x: Float[Array, "batch time"],
    epsilon: Float[Array, " batch"],
    target: Int[Array, " batch"] | None,
    config: GeneratorConfig,
    mask_key: Key[Array, ""] | None,
) -> _Made:
    """Adversarial speech; without a key with the quantised mask, as an attack has it."""
    asked = target if generator.target == ALL_TARGETS else None
    raw_locations, raw_magnitudes = generator.raw(variables, x, epsilon, asked)
    v = magnitudes_of(raw_magnitudes, epsilon, generator.magnitudes)
    d = location_scores(raw_locations) if generator.factorised else None
    hard = None if d is None else quantise(d, generator.gamma)
    if d is None or mask_key is None:
        m = hard
    else:
        m = soft_mask(d, mask_key, config.quantisation, generator.gamma)
    x_adv = clip_to_bounds(x + (v if m is None else m * v), x, BOUNDS)
    return _Made(x_adv=x_adv, raw=raw_locations, v=v, m=m, d=d, hard=hard)


def _on_threats(
    threats: Sequence[Victim],
    variables: Sequence[Any],
    x_adv: Float[Array, "batch time"],
    y: Int[Array, "batch threats"],
    target: Int[Array, " batch"] | None,
    confidence: float,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Mean over the threat models of the adversarial loss, and of whether they are fooled."""
    losses, fooled = [], []
    for index, (threat, own) in enumerate(zip(threats, variables, strict=True)):
        logits = threat.apply(own, x_adv).astype(jnp.float32)
        wanted = y[:, index] if target is None else target
        losses.append(adversarial_loss(logits, wanted, target is not None, confidence))
        fooled.append(is_successful(prediction(logits), wanted, target is not None))
    return sum(losses[1:], losses[0]) / len(losses), jnp.stack(fooled).mean(axis=0)


def _weighted(config: GeneratorConfig, losses: Any) -> Array:
    """Their sum; what is kept by a multiplier has no weight of its own."""
    magnitude = 0.0 if config.keep_snr is not None else config.magnitude_weight
    sparsity = 0.0 if config.keep_sparsity is not None else config.sparsity_weight
    return (
        losses["adversarial"]
        + magnitude * losses["magnitude"]
        + sparsity * losses["sparsity"]
        + config.quantisation_weight * losses["quantisation"]
    )


def _breaches(
    config: GeneratorConfig,
    x: Float[Array, "batch time"],
    made: _Made,
    share: Float[Array, ""] | None,
    members: Float[Array, "batch groups"],
) -> dict[str, Float[Array, "..."]]:
    """How far from what ``config`` says is to be kept."""
    found = {}
    if share is not None and made.hard is not None:
        found["sparsity"] = sparsity_breach(made.raw, made.hard, share, members)
    if config.keep_snr is not None:
        found["snr"] = snr_breach(x, made.x_adv, config.keep_snr)
    return found


def _accumulate(
    metrics: GeneratorMetrics, total: Array, losses: Any, fooled: Array, rate: Array
) -> GeneratorMetrics:
    named = {
        "loss": total,
        "adversarial": losses["adversarial"],
        "magnitude": losses["magnitude"],
        "sparsity_loss": losses["sparsity"],
        "quantisation": losses["quantisation"],
    }
    return GeneratorMetrics(
        losses={name: metrics.losses[name] + named[name] for name in _LOSSES},
        steps=metrics.steps + 1,
        fooled=metrics.fooled + fooled.sum(),
        changed=metrics.changed + rate.sum(),
        rows=metrics.rows + len(rate),
    )
