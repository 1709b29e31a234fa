"""A victim that reads spectrograms, with the front end inside: it takes speech or its features.

    model = WithFrontEnd(Spectrogram(kind="log_mel"), frames=261, network=build("cnn_lstm", 5))
    model.apply(variables, waveforms, train=False)              # [batch, time]: all of it
    features = model.apply(variables, waveforms, method="features")
    model.apply(variables, features, train=False)               # [batch, frames, bins]: the rest

An attacker of the real world changes the waveform and has to go through the front end; the papers
let theirs change the standardised spectrogram. Both are attacks on the same variables.

Source of the normalisations: Facchinetti et al., 2024, section 2.2.2 and table 1.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Shaped

from jaxser.runtime.errors import InputError
from jaxser.speech.features import Spectrogram

__all__ = ["LocalNetwork", "Normalisation", "RowBatches", "WithFrontEnd", "fit_statistics"]

# Utterances whose spectrograms are found at a time.
_BATCH_ROWS = 32

Normalisation = Literal["original", "sum", "max_global", "max_local"]


@runtime_checkable
class LocalNetwork(Protocol):
    """A module with the methods of :class:`jaxser.attacks.base.LocalFunction`, less variables."""

    def is_local(self, shape: tuple[int, ...], positions: int) -> bool: ...

    def encode(self, x: Array) -> Any: ...

    def logits_at(self, x: Array, encoding: Any, index: Array, values: Array) -> Array: ...


class WithFrontEnd(nn.Module):
    """``network`` behind a spectrogram, a normalisation and a standardisation of every cell.

    The statistics are variables of the collection ``batch_stats`` that no training step changes;
    :func:`fit_statistics` finds them.

    Attributes:
      front_end: from waveforms to spectrograms.
      frames: of the spectrograms.
      network: reads ``[batch, frames, bins]``.
      normalisation: what a spectrogram is divided by: nothing, its sum, the largest value of the
        training part, or its own largest value.
      compat: "paper": as the paper's notebooks do where they depart from its text: "max_global"
        divides by a spectrogram's own largest value, "max_local" takes every frame from 0 to 1.
        (Columns, they say, and a frame is one of librosa's matrix.)
      standardise: subtract the mean of every cell over the training part and divide by its
        deviation.
    """

    front_end: Spectrogram
    frames: int
    network: nn.Module
    normalisation: Normalisation = "original"
    standardise: bool = True
    compat: Literal["paper"] | None = None

    def setup(self) -> None:
        shape = (self.frames, self.front_end.bins)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        self.std = self.variable("batch_stats", "std", jnp.ones, shape, jnp.float32)
        self.largest = self.variable("batch_stats", "largest", jnp.ones, (), jnp.float32)

    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch classes"]:
        """Logits of waveforms ``[batch, time]`` or of features ``[batch, frames, bins]``.

        Raises:
          InputError: features, or waveforms whose features are, of another size than the victim's.
        """
        return self.network(self._read(x), train=train)

    def embed(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch hidden"]:
        """What the last linear layer of the network reads, of what :meth:`__call__` takes."""
        return self.network.embed(self._read(x), train=train)

    def _read(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch frames bins"]:
        if x.ndim == 2:
            x = self.features(x)
        self._check(x.shape[1:])
        return x

    def features(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames bins"]:
        """What ``network`` reads of waveforms."""
        y = self.spectrogram(x)
        return (y - self.mean.value[None]) / self.std.value[None]

    def spectrogram(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames bins"]:
        """The normalised spectrogram, not standardised."""
        y = self.front_end(x)
        self._check(y.shape[1:])
        if self.normalisation == "sum":
            return _divide(y, y.sum(axis=(1, 2), keepdims=True))
        if self.normalisation == "max_local" and self.compat == "paper":
            low, high = (of(y, axis=2, keepdims=True) for of in (jnp.min, jnp.max))
            return _divide(y - low, high - low)
        if self.divides_by_own:
            return _divide(y, y.max(axis=(1, 2), keepdims=True))
        return y / self.largest.value

    @property
    def divides_by_own(self) -> bool:
        """Whether a spectrogram is scaled by something of its own, which features do not keep."""
        by_all = self.normalisation == "max_global" and self.compat is None
        return not (by_all or self.normalisation == "original")

    def unstandardised(
        self, features: Float[Array, "batch frames bins"]
    ) -> Float[Array, "batch frames bins"]:
        """The spectrogram that ``features`` stand for, up to what its own sum or maximum was."""
        y = features * self.std.value[None] + self.mean.value[None]
        return y * self.largest.value

    @nn.nowrap
    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        """Whether :meth:`logits_at` does less than a forward pass: for features that a network
        reads locally, never for waveforms."""
        known = isinstance(self.network, LocalNetwork)
        return len(shape) == 2 and known and self.network.is_local(shape, positions)

    def encode(self, x: Float[Array, "batch frames bins"]) -> Any:
        """What :meth:`logits_at` needs of features."""
        return self.network.encode(x)

    def logits_at(
        self,
        x: Float[Array, "batch frames bins"],
        encoding: Any,
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions 1"],
    ) -> Float[Array, "batch candidates classes"]:
        """Logits of encoded features with a few cells changed, see the network's method."""
        return self.network.logits_at(x, encoding, index, values)

    def _check(self, shape: tuple[int, ...]) -> None:
        expected = (self.frames, self.front_end.bins)
        if shape != expected:
            raise InputError(
                f"this victim reads spectrograms of {expected[0]} frames and {expected[1]} bands, "
                f"but was given {' x '.join(map(str, shape))}; give speech of its own length."
            )


def _divide(y: Array, by: Array) -> Array:
    """``y / by``, and ``y`` where that is not defined."""
    return y / jnp.where(by == 0, 1.0, by)


@dataclasses.dataclass(frozen=True, eq=False)
class RowBatches:
    """Some rows of a (memory-mapped) array of waveforms, batch by batch, as often as wanted.

    Windows that are cut when they are read (:class:`jaxser.corpora.windows.Windows`) do as well.
    """

    waveforms: Float[Any, "utterances samples"]
    rows: Int[np.ndarray, " rows"]

    def __iter__(self) -> Iterator[Float[np.ndarray, "batch samples"]]:
        for start in range(0, len(self.rows), _BATCH_ROWS):
            yield np.array(self.waveforms[self.rows[start : start + _BATCH_ROWS]])


def fit_statistics(
    model: WithFrontEnd, batches: Iterable[Float[np.ndarray, "_ time"]]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The statistics of ``model`` over waveforms, in float64: the "batch_stats" it adds.

    Args:
      model: its normalisation and standardisation say what is needed.
      batches: waveforms; gone through up to three times, so a list or :class:`RowBatches`.
    """
    frames, bins = model.frames, model.front_end.bins
    fitted = {
        "mean": np.zeros((frames, bins)),
        "std": np.ones((frames, bins)),
        "largest": np.ones(()),
    }

    @jax.jit
    def spectrogram(largest: Array, x: Array) -> Array:
        held = {"mean": jnp.zeros((frames, bins)), "std": jnp.ones((frames, bins))}
        variables = {"batch_stats": {**held, "largest": largest}}
        return jnp.asarray(model.apply(variables, x, method="spectrogram"))

    def each(largest: Array) -> Iterable[np.ndarray]:
        for x in batches:
            yield np.asarray(spectrogram(largest, x), np.float64)

    one = jnp.ones((), jnp.float32)
    if model.normalisation == "max_global" and not model.divides_by_own:
        largest = max(float(y.max()) for y in each(one))
        fitted["largest"] = np.array(largest if largest else 1.0)
    if model.standardise:
        scale = jnp.asarray(fitted["largest"], jnp.float32)
        count, total = 0, np.zeros((frames, bins))
        for y in each(scale):
            count, total = count + len(y), total + y.sum(axis=0)
        fitted["mean"] = total / count
        squares = sum(np.square(y - fitted["mean"]).sum(axis=0) for y in each(scale))
        deviation = np.sqrt(squares / count)
        # Of a cell that never changes it is exactly 0: float64 sums equal float32 values exactly.
        fitted["std"] = np.where(deviation > 0, deviation, 1.0)
    return {name: value.astype(np.float32) for name, value in fitted.items()}
