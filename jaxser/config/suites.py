"""Suites: fixed lists of attacks at fixed ε, so that two papers can be compared by one number.

    suite = suite_of("standard")                 # the newest: suite.name is "standard-1"
    configs = suite_configs(AttackCommandConfig(victim=Path("runs/emo18"), suite="standard"))

The number behind the dash is the version of the list. A list that was published never changes: what
is to be changed gets the next number, and rows say which one they are of.

All attacks are untargeted and within an L∞ ball, so that one worst case over all of them has a
meaning at every ε. ε is a share of half the width of the victim's bounds: on waveforms, in (-1, 1),
it is the largest change of a sample.
"""

import dataclasses

from jaxser.config.attack import AttackCommandConfig, NamedAttack, as_params
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["SUITES", "Suite", "scaled_epsilons", "suite_configs", "suite_of"]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A fixed list.

    Attributes:
      name: with the version, such as "standard-1".
      attacks: in the order in which they run.
      epsilons: shares of half the width of the bounds.
    """

    name: str
    attacks: tuple[NamedAttack, ...]
    epsilons: tuple[float, ...] = (0.0005, 0.001, 0.002, 0.005, 0.01)


# The cheapest first: noise is what attacks are compared with.
_QUICK = (
    NamedAttack("noise"),
    NamedAttack("fgsm"),
    NamedAttack("pgd", parameters={"steps": 20}),
)
# A stronger gradient attack, two that look for the smallest perturbation, one by scores alone.
_STANDARD = (
    *_QUICK,
    NamedAttack("apgd", parameters={"steps": 50}),
    NamedAttack("deepfool", parameters={"norm": "linf"}),
    NamedAttack("fab", parameters={"norm": "linf", "steps": 50}),
    NamedAttack("square", parameters={"queries": 500}),
)
# The ensemble, few samples, and one by decisions alone.
_FULL = (
    *_STANDARD,
    NamedAttack("autoattack"),
    NamedAttack("sparsepgd", parameters={"share": 0.05, "variant": "strict", "steps": 40}),
    NamedAttack("hopskipjump", parameters={"norm": "linf", "queries": 5_000}),
)

# By the name without a version; the newest version of each.
SUITES = {
    "quick": Suite("quick-1", _QUICK),
    "standard": Suite("standard-1", _STANDARD),
    "full": Suite("full-1", _FULL),
}


def suite_of(name: str) -> Suite:
    """The suite called ``name``, with its version or without.

    Raises:
      UsageError: there is none, or not in this version of jaxser.
    """
    known = {suite.name: suite for suite in SUITES.values()}
    if name in SUITES or name in known:
        return SUITES[name] if name in SUITES else known[name]
    raise UsageError(f"there is no suite {name!r}; {nearest_name(name, [*SUITES, *known])}")


def suite_configs(config: AttackCommandConfig) -> list[AttackCommandConfig]:
    """What a command that asks for a suite stands for: a config for each of its attacks.

    Raises:
      UsageError: no such suite, or something beside it that the suite says.
    """
    assert config.suite is not None
    suite, default = suite_of(config.suite), AttackCommandConfig()
    for field in ("attack", "params", "epsilon", "epsilon_unit", "target"):
        if getattr(config, field) != getattr(default, field):
            raise UsageError(
                f"the suite {suite.name} says its attacks and epsilon, and has no target; leave "
                f"--{field} out."
            )
    return [
        dataclasses.replace(
            config,
            suite=suite.name,
            attack=entry.attack,
            params=as_params(entry.parameters),
            epsilon=suite.epsilons,
        )
        for entry in suite.attacks
    ]


def scaled_epsilons(
    suite: str, epsilons: tuple[float, ...], bounds: tuple[float, float] | None
) -> tuple[float, ...]:
    """ε of a suite in the units of a victim.

    Raises:
      UsageError: a victim without bounds, which a share of them means nothing to.
    """
    if bounds is None:
        raise UsageError(
            f"the epsilon of {suite} are shares of the victim's bounds, and it has none; give it "
            "the bounds of its inputs, or give attacks and epsilon by themselves."
        )
    half = (bounds[1] - bounds[0]) / 2
    # Twelve digits tell values apart, and leave out what the product did to the last ones.
    return tuple(float(f"{half * epsilon:.12g}") for epsilon in epsilons)
