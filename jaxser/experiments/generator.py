"""Whether a trained generator fits what it is asked to attack."""

import math
from collections.abc import Sequence

from jaxser.attacks.generator import ALL_TARGETS, Generator
from jaxser.config import AttackCommandConfig
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

__all__ = ["check_generator", "generator_notes"]


def check_generator(generator: Generator, victim: Victim, config: AttackCommandConfig) -> None:
    """Refuse a generator that was trained for other speech or another goal than is asked for.

    Raises:
      UsageError: another domain or target.
      InputError: other labels, another sample rate or another length.
    """
    if config.domain != "waveform":
        raise UsageError("staanet changes speech; use the domain waveform.")
    if victim.labels != generator.labels:
        raise InputError(
            f"the generator {generator.name} was trained for the labels "
            f"{', '.join(generator.labels)}, but {config.victim} knows {', '.join(victim.labels)}; "
            "give a victim of the same labels."
        )
    if victim.sample_rate != generator.sample_rate:
        raise InputError(
            f"the generator {generator.name} is for speech at {generator.sample_rate} Hz, but "
            f"{config.victim} hears {victim.sample_rate} Hz; give a victim of the same rate."
        )
    generator.check_inputs((1, *victim.input_shape))
    if generator.target not in (None, ALL_TARGETS, config.target):
        raise UsageError(
            f"the generator {generator.name} was trained to reach {generator.target}; give "
            f"--target {generator.target}."
        )


def generator_notes(
    generator: Generator | None, config: AttackCommandConfig, epsilons: Sequence[float]
) -> list[str]:
    """A remark where an ε, as an amplitude, is none that the generator was trained for."""
    if generator is None or config.epsilon_unit != "amplitude":
        return []
    low, high = generator.epsilon
    if math.isnan(low):
        return [f"{generator.name} does not say which ε its generator was trained for"]
    # A range that is met to the last digit of what the config says is met.
    if all(low * (1 - 1e-6) <= epsilon <= high * (1 + 1e-6) for epsilon in epsilons):
        return []
    trained = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return [f"the generator was trained for ε {trained} alone"]
