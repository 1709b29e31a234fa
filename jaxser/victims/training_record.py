"""What a run folder says of its training: against what, and what it took.

facts = training_facts(Path("runs/emo18"), config)
facts.defence                                # "trained against pgd, ε 0.002 (trades)"
facts.seconds, facts.gradients               # of cost.json, which ends a training
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxser import models
from jaxser.config import TrainConfig
from jaxser.config.adversarial import USUAL_SHARE
from jaxser.config.ranges import Domain
from jaxser.results.training_facts import KINDS, TrainingFacts
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import read_json, write_text

__all__ = ["COST_FILE", "defence_text", "training_facts", "write_cost"]

COST_FILE = "cost.json"

# What a network is attacked through where nothing else is asked for.
_OWN_DOMAIN: dict[str, Domain] = {
    "image": "image",
    "spectrogram": "features",
    "waveform": "waveform",
}


def defence_text(config: TrainConfig) -> str | None:
    """What the victim of a run is trained against, in words; None where against nothing."""
    against, noise = config.training.adversarial, config.training.noise
    told = []
    if against.attack is not None:
        budget = " to ".join(f"{epsilon:g}" for epsilon in dict.fromkeys(against.epsilon))
        domain = against.domain or _OWN_DOMAIN[models.input_of(config.model.name)]
        of = "" if domain == "waveform" else f" of the {domain}"
        how = ", ".join(_how(config))
        name = Path(against.attack).stem
        told.append(f"against {name}, ε {budget}{of}" + (f" ({how})" if how else ""))
    if noise > 0:
        told.append(f"with noise of σ {noise:g}")
    return f"trained {' and '.join(told)}" if told else None


def _how(config: TrainConfig) -> Iterator[str]:
    """What sets a training apart from Madry et al.'s with the usual share of attacked rows."""
    against = config.training.adversarial
    if against.loss != "adversarial":
        yield against.loss
    elif against.share not in (None, USUAL_SHARE):
        yield "all rows" if against.share == 1 else f"{against.share:.0%} of the rows"
    if against.replays > 1:
        yield f"free, {against.replays} replays"
    if against.random_start:
        yield "random start"
    if against.awp > 0:
        yield f"awp {against.awp:g}"


def training_facts(folder: Path, config: TrainConfig) -> TrainingFacts:
    """What is known of the training of a run.

    Args:
      folder: of the run; without a ``cost.json``, as of a training that goes on and of older
        versions, nothing is known of what it took.
      config: of the run.

    Raises:
      InputError: the file is not what training wrote there.
    """
    path, facts = folder / COST_FILE, TrainingFacts(defence=defence_text(config))
    if not path.is_file():
        return facts
    advice = "restore it from a copy, or delete it: the cost is then unknown"
    values = read_json(path, advice)
    if not _whole(values):
        raise InputError(f"{path} is not what training wrote there; {advice}.")
    known = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(facts, **known)


def _whole(values: Any) -> bool:
    """Whether a file has all keys, with values that can be."""
    if not isinstance(values, dict) or values.keys() != KINDS.keys():
        return False
    numbers = [value for name, value in values.items() if KINDS[name] is not str]
    return all(
        value is None or (type(value) in (int, kind) if kind is float else type(value) is kind)
        for value, kind in ((values[name], kind) for name, kind in KINDS.items())
    ) and all(value is None or 0 <= value < math.inf for value in numbers)


def write_cost(folder: Path, facts: TrainingFacts) -> None:
    """Write what a training took into its run folder; what is not known is null."""
    known = {name: getattr(facts, name) for name in KINDS}
    values = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in known.items()
    }
    write_text(folder / COST_FILE, json.dumps(values, indent=1) + "\n")
