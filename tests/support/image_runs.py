"""Speech of half a second and a network of images that compiles at once, for whole runs."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from flax import linen as nn
from jax import numpy as jnp

from jaxser import models
from jaxser.models.layers.feature_map import feature_map

RATE = 1_000

# Flags of python -m jaxser.train, but for the folders.
FLAGS = (
    *("--corpus.name", "csv", "--corpus.sample_rate", str(RATE), "--corpus.seconds", "0.25"),
    *("--corpus.windows", "true", "--corpus.stride_ms", "125", "--model.name", "shallow"),
    *("--features.kind", "linear", "--features.n_fft", "30", "--features.win_length", "30"),
    *("--features.hop_length", "16", "--features.image_size", "16"),
    *("--training.batch_size", "8", "--training.epochs", "6", "--training.learning_rate", "0.01"),
    *("--training.monitor", "last", "--training.schedule", "constant"),
)


class Shallow(nn.Module):
    """A convolution and a sum, with what the six networks offer beside their logits."""

    num_classes: int
    dtype: Any = jnp.float32
    image_size: int = 16

    def setup(self) -> None:
        self.conv = nn.Conv(4, (4, 4), (4, 4), padding="VALID")
        self.dense = nn.Dense(self.num_classes)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.dense(self.embed(x, train))

    def embed(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        y = jnp.tanh(3 * self.conv(x - 0.4))
        return feature_map(self, y, *y.shape[1:3]).reshape(len(x), -1)


def use_shallow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``shallow`` an architecture that reads images."""
    module = ModuleType("jaxser.models.shallow")
    module.Shallow = Shallow  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(models._ARCHITECTURES, "shallow", ("shallow", "Shallow", "image"))


def write_speech(folder: Path) -> Path:
    """48 files of four speakers: high and low tones, of 0.2 to 0.6 s."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["file,label,speaker"]
    for number in range(48):
        time = np.arange(round(RATE * (0.2 + 0.4 * rng.uniform()))) / RATE
        pitch = (60, 220)[number % 2] + 20 * rng.uniform()
        x = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * rng.normal(size=len(time))
        soundfile.write(folder / f"u{number:02}.wav", np.clip(x, -1, 1), RATE, subtype="FLOAT")
        lines.append(f"u{number:02}.wav,{('low', 'high')[number % 2]},s{number // 2 % 4}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder
