"""The victims that are explained: each loaded once, and all checked before the first is attacked.

root, folders = folders_of(config)
waiting = [load_victim(config, *each) for each in folders]
"""

import dataclasses
import functools
import itertools
from pathlib import Path

from jaxser.config import AttackCommandConfig
from jaxser.config.explain import ExplainConfig, Picture
from jaxser.driver.named_attack import attack_of
from jaxser.experiments.pictures import checked_pictures, left_out
from jaxser.experiments.speech import Part, part_of, victim_of
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

__all__ = ["Waiting", "folders_of", "load_victim"]


@dataclasses.dataclass(frozen=True, eq=False)
class Waiting:
    """A victim that nothing has passed through yet.

    Attributes:
      asked: its attack.
      victim: loaded.
      part: of the corpus that it is to hear.
      folder: that its pictures go to.
      pictures: to draw.
      left_out: what else would be drawn but cannot be, and why.
    """

    asked: AttackCommandConfig
    victim: Victim
    part: Part
    folder: Path
    pictures: list[Picture]
    left_out: list[str]


def folders_of(config: ExplainConfig) -> tuple[Path, list[tuple[Path, Path]]]:
    """Where tables of all victims go, and each victim with the folder of its own pictures.

    Raises:
      UsageError: several victims without a folder for them, or one of them twice.
    """
    victims = config.victim
    if len(victims) == 1:
        root = config.out or victims[0] / "explain"
        return root, [(victims[0], root)]
    if config.out is None:
        raise UsageError("several victims are compared in one table; give its folder as --out.")
    if len({victim.resolve() for victim in victims}) < len(victims):
        raise UsageError("the same victim is given twice; give each once.")
    names: list[str] = []
    for victim in victims:
        own = victim.resolve().name
        numbered = (f"{own} {number}" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([own], numbered) if name not in names))
    return config.out, [(v, config.out / name) for v, name in zip(victims, names, strict=True)]


def load_victim(config: ExplainConfig, victim: Path, folder: Path) -> Waiting:
    """Load a victim, and refuse what cannot be drawn of it.

    Args:
      config: of the command.
      victim: run folder.
      folder: that its pictures go to.

    Raises:
      UsageError, InputError: see the message.
    """
    asked = _attack_config(config, victim)
    # A mistyped attack is found before a victim is loaded; a file of weights needs one, though.
    heard = functools.cache(lambda: victim_of(asked))
    attack_of(asked, heard)
    part = part_of(asked, heard())
    pictures = checked_pictures(config, heard(), victim, len(part.positions))
    lacking = left_out(config, heard(), len(part.positions))
    return Waiting(asked, heard(), part, folder, pictures, lacking)


def _attack_config(config: ExplainConfig, victim: Path) -> AttackCommandConfig:
    return AttackCommandConfig(
        victim=victim,
        attack=config.attack,
        epsilon=(config.epsilon,),
        params=config.params,
        domain=config.domain,
        split=config.split,
        limit=config.limit,
        seed=config.seed,
        batch_size=config.batch_size,
        corpus=config.corpus,
    )
