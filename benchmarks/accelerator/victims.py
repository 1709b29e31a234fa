"""Victims with weights and speech that are made here: no corpus, no training, no files.

drawn = drawn_victim("emo18", seconds=6.0, dtype="bfloat16")
drawn.victim, drawn.inputs(32)                     # inputs [32, 96000]
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from benchmarks.compiled_programs import CLASSES, Spec, input_shape_of, victim_shapes
from jaxser import models
from jaxser.victims.victim import Victim, evaluation_logits

__all__ = ["Drawn", "drawn_victim", "drawn_weights"]

# Kind of input -> its bounds.
_BOUNDS = {"waveform": (-1.0, 1.0), "spectrogram": (-5.0, 7.0), "image": (0.0, 1.0)}


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A victim, and what its inputs are like.

    Attributes:
      spec: its name and options.
      module: its network.
      victim: it; variables are on the device.
      seconds: of speech in an input.
    """

    spec: Spec
    module: Any
    victim: Victim
    seconds: float

    @property
    def kind(self) -> str:
        """Of input."""
        return models.input_of(self.spec.victim)

    def inputs(self, rows: int) -> np.ndarray:
        """The same ones every time."""
        rng = np.random.default_rng(0)
        shape = (rows, *self.victim.input_shape)
        if self.kind == "image":
            return rng.uniform(0, 1, shape).astype(np.float32)
        deviation = 0.1 if self.kind == "waveform" else 1.0
        x = rng.normal(0, deviation, shape).astype(np.float32)
        return np.clip(x, *_BOUNDS[self.kind])


@functools.lru_cache(maxsize=32)
def drawn_victim(text: str, seconds: float, dtype: str, shapes_only: bool = False) -> Drawn:
    """A victim with weights by seed 0.

    Args:
      text: a model's name with options, such as ``emo18`` or ``wav2vec2-base+num_hidden_layers=1``.
      seconds: of speech in an input, where that is not of one length.
      dtype: that it computes in, where the options do not say it.
      shapes_only: leave the weights out, for compilers.
    """
    spec = Spec.read(f"{text}:pgd")
    if "+dtype=" not in text:
        spec = dataclasses.replace(spec, options={**spec.options, "dtype": dtype})
    module = spec.module()
    shape, own_seconds = input_shape_of(spec.victim, seconds)
    variables = victim_shapes(module, shape)
    if not shapes_only:
        variables = jax.device_put(drawn_weights(variables), jax.local_devices()[0])
    victim = Victim(
        apply=evaluation_logits(module),
        variables=variables,
        labels=tuple(f"class{i}" for i in range(CLASSES)),
        input_shape=shape,
        bounds=_BOUNDS[models.input_of(spec.victim)],
        name=text,
    )
    return Drawn(spec, module, victim, own_seconds)


def drawn_weights(shapes: Any) -> Any:
    """Arrays of these shapes, without compiling anything: kernels of variance 1 over what a sum
    has, scales and variances of 1, the rest 0."""
    rng = np.random.default_rng(0)

    def drawn(path: Any, of: Any) -> np.ndarray:
        name = str(getattr(path[-1], "key", path[-1]))
        if len(of.shape) > 1:
            deviation = float(np.prod(of.shape[:-1])) ** -0.5
            return rng.normal(0, deviation, of.shape).astype(of.dtype)
        return np.full(of.shape, name in ("scale", "var"), of.dtype)

    return jax.tree_util.tree_map_with_path(drawn, shapes)
