"""A network that compiles at once, in place of those that runs describe."""

from pathlib import Path
from typing import Any

import jax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from jaxser.training import run as training_run
from jaxser.victims import run_folder


class Tiny(nn.Module):
    """Four numbers of a waveform, and a dense layer."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        pooled = jnp.abs(x).reshape(len(x), 4, -1).mean(axis=2)
        # Of noise as quiet as that of the tests: all four differ from one utterance to the next.
        normed = nn.BatchNorm(use_running_average=not train)(200 * (pooled - 0.15))
        return nn.Dense(self.classes)(normed)


def use_tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs train and load :class:`Tiny`, whatever their config says."""

    def build(config: Any, num_classes: int, architecture: Path | None = None) -> nn.Module:
        return Tiny(num_classes)

    for module in (training_run, run_folder):
        monkeypatch.setattr(module, "build_module", build)
