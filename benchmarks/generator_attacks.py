"""Whole adversarial examples by STAA-Net's generator and by PGD, both in JAX."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.generator_sides import Side, gflop_of

__all__ = ["EPSILON", "PGD_STEPS", "attack_sides", "attacked", "pgd_side"]

SAMPLE_RATE = 16_000
CLASSES = 7
EPSILON = 0.05  # of the paper
PGD_STEPS = 20  # of the paper


def attack_sides(samples: int, dtype: str, threats: Sequence[str]) -> dict[str, Side]:
    """Whole attacks: STAA-Net's, and PGD on every threat model."""
    import jax
    import jax.numpy as jnp

    from jaxser import models
    from jaxser.attacks import StaaNet
    from jaxser.attacks.generator import Generator
    from jaxser.models.wave_unet import example_inputs, prepare
    from jaxser.victims.victim import evaluation_logits

    module: Any = models.build("waveunet", num_samples=samples, dtype=dtype, padding="same")
    variables = prepare(module, drawn(module, *example_inputs(module)))
    labels = tuple(f"class{i}" for i in range(CLASSES))
    limits = (EPSILON, EPSILON)
    generator = Generator(module.apply, variables, samples, SAMPLE_RATE, labels, limits)
    staa = StaaNet(generator=generator)

    def made(variables: Any, x: Any) -> Any:
        return attacked(staa.with_variables(variables), lambda x: jnp.zeros((len(x), CLASSES)), x)

    run = jax.jit(made)
    sides = {
        "jaxser STAA-Net": Side(
            jnp.asarray,
            {"attack": lambda x: jax.block_until_ready(run(variables, x))},
            gflop_of(module),
        )
    }
    x = jnp.zeros((1, samples))
    for threat in threats:
        victim = models.build(threat, CLASSES)
        weights = drawn(victim, x)
        sides[f"jaxser PGD-{PGD_STEPS} on {threat}"] = pgd_side(
            evaluation_logits(victim), weights, x
        )
    return sides


def on_cpu() -> Any:
    """A context in which JAX uses the CPU, whatever else there is."""
    import jax

    return jax.default_device(jax.local_devices(backend="cpu")[0])


def drawn(module: Any, *inputs: Any) -> Any:
    """A model's first variables; made on the CPU, for which they are compiled sooner."""
    import jax

    with on_cpu():
        variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    return jax.device_put(variables, jax.local_devices()[0])


def pgd_side(logits: Callable[[Any, Any], Any], weights: Any, x: Any) -> Side:
    """PGD on one threat model; ``x`` is a waveform of the length."""
    import jax
    import jax.numpy as jnp

    from jaxser.attacks import PGD

    pgd = PGD(steps=PGD_STEPS)
    run = jax.jit(lambda weights, x: attacked(pgd, functools.partial(logits, weights), x))
    gradient = jax.jit(jax.grad(lambda x, weights: logits(weights, x)[:, 0].sum()))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (x, weights))
    with on_cpu():  # the only compiler that counts what it has not compiled
        counted: Any = gradient.lower(*shapes).cost_analysis()
    runs = {"attack": lambda x: jax.block_until_ready(run(weights, x))}
    return Side(jnp.asarray, runs, {"attack": PGD_STEPS * counted["flops"] / 1e9}, peer=True)


def attacked(attack: Any, logits: Callable[[Any], Any], x: Any) -> Any:
    """What ``attack`` makes of waveforms ``x``, all its steps in one program."""
    import jax
    import jax.numpy as jnp

    from jaxser.attacks.base import row_keys

    rows = jnp.arange(len(x), dtype=jnp.uint32)
    epsilon = jnp.full(len(x), EPSILON)
    keys = row_keys(jax.random.key(0), rows)
    state = attack.init(logits, keys, x, jnp.zeros(len(x), jnp.int32), epsilon)
    steps = attack.max_steps
    return jax.lax.fori_loop(0, steps, lambda _, state: attack.step(logits, state), state).x_adv
