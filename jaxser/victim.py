"""A victim: a Linen module with its variables and its input contract.

victim = jaxser.load_victim("runs/emo18")
logits = victim.logits(waveforms)            # [batch, classes] float32
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jaxser import models
from jaxser.checkpoint import load_variables
from jaxser.config import TrainConfig, from_mapping, load_yaml
from jaxser.errors import InputError, UsageError

__all__ = ["Victim", "evaluation_logits", "load_victim", "read_run"]


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """What an attack needs to know of a model.

    Attributes:
      apply: pure function ``(variables, x [batch, *input_shape]) -> logits [batch, classes]``,
        in evaluation mode, with the normalisation and any front end inside.
      variables: its parameters and statistics (a pytree).
      labels: class names in index order.
      input_shape: shape of one input; ``(samples,)`` for waveforms.
      bounds: valid range of an input, or None.
      sample_rate: of the waveform, in Hz.
      name: what tables call it.
      notes: remarks that must travel into every result (synthetic corpus, leaky split ...).
      randomised: it has noise of its own (dropout, a smoothing defence); ``apply`` then takes a
        third argument, keys ``[batch]``, and row i's noise depends on ``keys[i]`` alone.
    """

    apply: Callable[..., Float[Array, "batch classes"]]
    variables: Any
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    bounds: tuple[float, float] | None = (-1.0, 1.0)
    sample_rate: int = 16_000
    name: str = "victim"
    notes: tuple[str, ...] = ()
    randomised: bool = False

    def logits(
        self, x: Float[Array, "batch ..."], keys: Key[Array, "batch"] | None = None
    ) -> Float[Array, "batch classes"]:
        """Logits of ``x``; never probabilities. A randomised victim needs ``keys``."""
        if not self.randomised:
            return self.apply(self.variables, x)
        if keys is None:
            raise UsageError(f"{self.name} is randomised: give logits one key per row.")
        return self.apply(self.variables, x, keys)


def evaluation_logits(
    model: nn.Module,
) -> Callable[[Any, Float[Array, "batch ..."]], Float[Array, "batch classes"]]:
    """``(variables, x) -> logits`` of a module in evaluation mode."""
    return functools.partial(model.apply, train=False)  # type: ignore[return-value]


def load_victim(folder: Path | str) -> Victim:
    """The victim that a training run left in ``folder``, with its best checkpoint.

    Args:
      folder: run folder, as written by ``python -m jaxser.train``.

    Returns:
      The victim, its variables on the default device.

    Raises:
      InputError: the folder is no run, holds no finished checkpoint, or the checkpoint is of
        another architecture than its config says.
    """
    folder = Path(folder)
    config, facts = read_run(folder)
    model = models.build(
        config.model.name, num_classes=len(facts["labels"]), dtype=config.model.dtype
    )
    x = jax.ShapeDtypeStruct((1, config.corpus.num_samples), jnp.float32)
    like = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return Victim(
        apply=evaluation_logits(model),
        variables=jax.tree.map(jnp.asarray, load_variables(folder / "checkpoints", like)),
        labels=tuple(facts["labels"]),
        input_shape=(config.corpus.num_samples,),
        sample_rate=config.corpus.sample_rate,
        name=config.model.name,
        notes=tuple(facts["corpus"]["notes"]),
    )


def read_run(folder: Path | str) -> tuple[TrainConfig, dict[str, Any]]:
    """(config, facts) of a run folder: what was asked for, and what ``run.json`` recorded.

    Raises:
      InputError: the folder is no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file() or not (folder / "run.json").is_file():
        raise InputError(
            f"{folder} is not a run folder (it has no config.yaml or run.json); give the --out of "
            "a python -m jaxser.train run."
        )
    config = from_mapping(
        TrainConfig, load_yaml(folder / "config.yaml"), str(folder / "config.yaml")
    )
    try:
        return config, json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{folder / 'run.json'} is damaged ({error}); restore or retrain."
        ) from error
