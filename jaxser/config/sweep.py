"""What ``python -m jaxser.sweep`` takes: victims × attacks × ε × corpora × seeds, of a YAML file.

config = load_sweep(Path("configs/sweeps/demo.yaml"))
for cell in cells(config): ...            # a victim, an attack, a corpus, a seed, and all ε
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jaxser.config.attack import AttackCommandConfig, AttackedCorpusConfig, NamedAttack, as_params
from jaxser.config.ranges import Domain, Output, Seed
from jaxser.config.reading import from_mapping, load_yaml
from jaxser.config.suites import suite_of
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.text import shown_value

__all__ = ["Cell", "SweepConfig", "cells", "load_sweep"]

# A list of ε, or {linspace: [first, last, count]}, or {logspace: [first, last, count]}.
EpsilonGrid = list[float] | dict[str, list[float]]

# Of a linspace or logspace: more is a mistyped number.
_MOST = 10_000


@dataclasses.dataclass(frozen=True)
class SweptAttack(NamedAttack):
    """One attack of a sweep.

    Attributes:
      epsilon: budgets of its own, as amplitudes, instead of the sweep's, such as the number of
        samples of an L0 attack; none at all for an attack that looks for the smallest
        perturbation: ``[]``.
    """

    epsilon: EpsilonGrid | None = None


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep file."""

    out: Annotated[Path, Field(description="folder of rows, which an unfinished sweep goes on in")]
    victims: Annotated[tuple[Path, ...], Field(min_length=1, description="run folders")]
    attacks: Annotated[tuple[SweptAttack, ...], Field(min_length=1)]
    epsilon: EpsilonGrid = dataclasses.field(default_factory=list)
    epsilon_unit: Literal["amplitude", "snr_peak", "snr_power"] = "amplitude"
    corpora: Annotated[
        tuple[AttackedCorpusConfig, ...],
        Field(min_length=1, description="speech to attack; of each victim by default"),
    ] = (AttackedCorpusConfig(),)
    seeds: Annotated[
        tuple[Annotated[int, Seed], ...], Field(min_length=1, description="of random starts")
    ] = (0,)
    split: Literal["train", "val", "test"] = "test"
    limit: Annotated[int | None, Field(gt=0, description="utterances, spread over the part")] = None
    y: Literal["truth", "prediction"] = "truth"
    target: str | None = None
    domain: Domain = "waveform"
    output: Output = "logits"
    smoothing: Annotated[
        float | None, Field(gt=0, description="σ of the noise that all victims are smoothed by")
    ] = None
    smoothing_samples: Annotated[int, Field(gt=0)] = 16
    draws: Annotated[int, Field(gt=0)] = 5
    batch_size: Annotated[int | None, Field(gt=0)] = None
    transfer: Annotated[
        bool, Field(description="score what is made on a victim on all others that hear the same")
    ] = False
    stoi: bool = False
    labels: Annotated[
        tuple[str, ...], Field(description="VICTIM=CORPUS, of labels that are not found by name")
    ] = ()
    suite: Annotated[
        str | None, Field(description="a fixed list of attacks and epsilon, in place of both")
    ] = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One stream of batches: a victim, an attack, a corpus and a seed, at all ε.

    Attributes:
      title: of the attack.
      config: as python -m jaxser.attack takes it.
    """

    title: str
    config: AttackCommandConfig

    @property
    def name(self) -> str:
        corpus = self.config.corpus.name
        words = [self.title, "on", str(self.config.victim)]
        words += ["with", corpus] if corpus else []
        return " ".join([*words, f"(seed {self.config.seed})"])


def load_sweep(path: Path, changes: Mapping[str, Any] | None = None) -> SweepConfig:
    """Read a sweep file.

    Args:
      path: a YAML file; an attack may be given by its name alone.
      changes: that take the place of what the file says.

    Raises:
      UsageError: what is not known, missing or impossible.
    """
    values = {**load_yaml(path), **(changes or {})}
    if values.get("suite") is not None:
        values |= _of_suite(values, path, asked="suite" in (changes or {}))
    for name in ("out", "victims", "attacks"):
        if not values.get(name):
            raise UsageError(f"{path} must say {name}:.")
    where = str(path)
    values["attacks"] = _entries(SweptAttack, values["attacks"], "attack", where)
    if "corpora" in values:
        values["corpora"] = _entries(AttackedCorpusConfig, values["corpora"], "name", where)
    config = from_mapping(SweepConfig, values, where)
    titles = [entry.title for entry in config.attacks]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"{path} has two attacks named {title}; give each a name: of its own.")
    if config.transfer and config.domain != "waveform":
        raise UsageError(
            f"transfer in {path} is of speech, which victims have in common; leave it out with "
            f"domain {config.domain}."
        )
    if config.transfer and any(corpus.seconds is not None for corpus in config.corpora):
        raise UsageError(
            f"transfer in {path} needs one length of speech for all victims; leave out seconds:."
        )
    if config.transfer and config.smoothing is not None:
        raise UsageError(
            f"transfer in {path} is heard by victims without noise; leave it out with smoothing."
        )
    if config.transfer and config.output != "logits":
        raise UsageError(
            f"transfer in {path} is from logits; leave it out with output {config.output}."
        )
    for entry in config.attacks:
        grid_of(config.epsilon if entry.epsilon is None else entry.epsilon, where)
    return config


def cells(config: SweepConfig) -> Iterator[Cell]:
    """All of them: what shares a victim and its speech comes together."""
    grid = itertools.product(config.victims, config.corpora, config.seeds, config.attacks)
    for victim, corpus, seed, entry in grid:
        own = config.epsilon if entry.epsilon is None else entry.epsilon
        yield Cell(
            title=entry.title,
            config=AttackCommandConfig(
                victim=victim,
                attack=entry.attack,
                suite=config.suite,
                labels=config.labels,
                epsilon=grid_of(own, str(config.out)),
                epsilon_unit=config.epsilon_unit if entry.epsilon is None else "amplitude",
                params=as_params(entry.parameters),
                domain=config.domain,
                output=config.output,
                smoothing=config.smoothing,
                smoothing_samples=config.smoothing_samples,
                split=config.split,
                limit=config.limit,
                y=config.y,
                target=config.target,
                seed=seed,
                draws=config.draws,
                batch_size=config.batch_size,
                stoi=config.stoi,
                corpus=corpus,
            ),
        )


def grid_of(grid: EpsilonGrid, where: str) -> tuple[float, ...]:
    """The values of ε that a list, a linspace or a logspace stands for.

    Raises:
      UsageError: another kind, or limits that do not fit it.
    """
    if not isinstance(grid, dict):
        return tuple(grid)
    if len(grid) != 1:
        raise UsageError(f"epsilon in {where} must be a list, linspace: or logspace:, one of them.")
    ((kind, values),) = grid.items()
    if kind not in ("linspace", "logspace"):
        raise UsageError(
            f"epsilon in {where} has {kind!r}; {nearest_name(kind, ('linspace', 'logspace'))}"
        )
    if not (
        len(values) == 3
        and all(map(math.isfinite, values))
        and float(values[2]).is_integer()
        and 2 <= values[2] <= _MOST
    ):
        raise UsageError(
            f"{kind} in {where} must be [first, last, count], finite, with a count of 2 at "
            f"least and {_MOST:,} at most, not {shown_value(values)}."
        )
    first, last, count = values[0], values[1], int(values[2])
    if kind == "logspace" and not (first > 0 and last > 0):
        raise UsageError(
            f"logspace in {where} goes from {first:g} to {last:g}; both must be over 0."
        )
    shares = [i / (count - 1) for i in range(count)]
    if kind == "linspace":
        made = [first + (last - first) * share for share in shares]
    else:
        # A ratio that is beyond all numbers is found below, and not by what math raises.
        ratio = last / first
        reach = math.log(ratio) if 0 < ratio < math.inf else math.nan
        made = [math.exp(math.log(first) + reach * share) for share in shares]
    if not all(map(math.isfinite, made)):
        raise UsageError(f"{kind} in {where} goes from {first:g} to {last:g}, which is too far.")
    # Twelve digits tell values apart, and leave out what rounding did to the last ones.
    return tuple(float(f"{value:.12g}") for value in made)


def _of_suite(values: Mapping[str, Any], path: Path, *, asked: bool) -> dict[str, Any]:
    """What a suite says in place of the file, or of nothing where the file names the suite."""
    suite = suite_of(str(values["suite"]))
    said = {"attacks", "epsilon"} & set(values)
    if said and not asked:
        raise UsageError(f"{path} has suite: and {' and '.join(sorted(said))}:; leave one out.")
    if values.get("target") is not None or values.get("epsilon_unit", "amplitude") != "amplitude":
        raise UsageError(
            f"the suite {suite.name} has no target, and its epsilon are amplitudes; leave out "
            f"target: and epsilon_unit: in {path}."
        )
    attacks = [dataclasses.asdict(entry) for entry in suite.attacks]
    return {"suite": suite.name, "attacks": attacks, "epsilon": list(suite.epsilons)}


def _entries(kind: Any, values: Any, key: str, where: str) -> list[Any]:
    """Mappings, or the one name that each would hold."""
    listed = values if isinstance(values, list) else [values]
    return [
        from_mapping(kind, each if isinstance(each, dict) else {key: each}, where)
        for each in listed
    ]
