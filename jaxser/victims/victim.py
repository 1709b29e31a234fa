"""A victim: a Linen module with its variables and its input contract.

victim = jaxser.load_victim("runs/emo18")    # or a folder of Hugging Face
logits = victim.logits(waveforms)            # [batch, classes] float32
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.hyperparameters import check_bounds
from jaxser.models.front_end import LocalNetwork
from jaxser.results.training_facts import UNRECORDED, TrainingFacts
from jaxser.runtime.errors import UsageError
from jaxser.victims.feature_maps import FeatureMap

__all__ = ["FrontEnd", "LocalEvaluation", "Victim", "evaluation_logits"]


@dataclasses.dataclass(frozen=True, eq=False)
class FrontEnd:
    """How a victim gets from speech to what its network reads.

    Attributes:
      features: pure function ``(variables, waveforms [batch, time]) -> features``: normalised and
        standardised ``[batch, frames, bins]``, or levels or colours of an image ``[batch, size,
        size, channels]``.
      spectrogram: ``(variables, features) -> spectrograms`` in the front end's own units, such as
        dB, for people to look at.
      speech: ``(variables, features [frames, bins]) -> waveform [samples]`` on the host: speech
        that sounds like the features, see :mod:`jaxser.speech.inversion`.
      measures: of a victim that reads images: ``(variables, inputs, adversarial inputs) -> {column
        of the row schema: [batch]}``, what the change is as a spectrogram; else None.
    """

    features: Callable[..., Float[Array, "batch ..."]]
    spectrogram: Callable[..., Float[Array, "batch ..."]]
    speech: Callable[..., Float[np.ndarray, " samples"]]
    measures: Callable[..., dict[str, Float[Array, " batch"]]] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """What an attack needs to know of a model.

    Attributes:
      apply: pure function ``(variables, x [batch, *input_shape]) -> logits [batch, classes]``,
        in evaluation mode, with the normalisation and any front end inside. Attacks that change
        few positions are cheaper where it is a :class:`jaxser.attacks.base.LocalFunction`.
      variables: its parameters and statistics (a pytree).
      labels: class names in index order.
      input_shape: shape of one input; ``(samples,)`` for waveforms.
      bounds: valid range of an input, or None.
      sample_rate: of the waveform, in Hz.
      shortest_input: of a network that takes waveforms of any length, the least samples; else 0.
      name: what tables call it.
      notes: remarks that must travel into every result (synthetic corpus, leaky split ...).
      randomised: it has noise of its own (dropout, a smoothing defence); ``apply`` then takes a
        third argument, keys ``[batch]``, and row i's noise depends on ``keys[i]`` alone.
      passes: inputs that its network reads for one of its own; a smoothed victim has many.
      front_end: of a victim that reads a spectrogram, else None.
      embed: ``(variables, x) -> what the last linear layer reads [batch, features]``, see
        :mod:`jaxser.victims.last_layer`; None where the network does not tell.
      feature_map: of a victim that reads a spectrogram or an image: what Grad-CAM++ looks at.
      training: what is known of how it came about.

    Raises:
      UsageError: bounds that are not (low, high) with low < high.

    Examples:
      >>> import jax.numpy as jnp
      >>> import jaxser
      >>> apply = lambda variables, x: x @ variables
      >>> victim = jaxser.Victim(apply, 2 * jnp.eye(2), labels=("anger", "joy"), input_shape=(2,))
      >>> victim
      Victim(victim: inputs [2] -> 2 labels, anger joy)
      >>> print(victim.logits(jnp.array([[0.5, -0.25]])))
      [[ 1.  -0.5]]
    """

    apply: Callable[..., Float[Array, "batch classes"]]
    variables: Any
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    bounds: tuple[float, float] | None = (-1.0, 1.0)
    sample_rate: int = 16_000
    shortest_input: int = 0
    name: str = "victim"
    notes: tuple[str, ...] = ()
    randomised: bool = False
    passes: int = 1
    front_end: FrontEnd | None = None
    embed: Callable[..., Float[Array, "batch features"]] | None = None
    feature_map: FeatureMap | None = None
    training: TrainingFacts = UNRECORDED

    def __post_init__(self) -> None:
        check_bounds(self.name, self.bounds)

    def hears_like(self, other: "Victim") -> bool:
        """Whether both take the same inputs for the same labels, as transfer between them needs."""
        return (
            self.labels == other.labels
            and self.sample_rate == other.sample_rate
            and tuple(self.input_shape) == tuple(other.input_shape)
        )

    def logits(
        self, x: Float[Array, "batch ..."], keys: Key[Array, " batch"] | None = None
    ) -> Float[Array, "batch classes"]:
        """Logits of ``x``; never probabilities. A randomised victim needs ``keys``."""
        if not self.randomised:
            return self.apply(self.variables, x)
        if keys is None:
            raise UsageError(f"{self.name} is randomised: give logits one key per row.")
        return self.apply(self.variables, x, keys)

    def __repr__(self) -> str:
        shown = [*self.labels[:8], "..."] if len(self.labels) > 8 else self.labels
        return (
            f"Victim({self.name}: inputs {list(self.input_shape)} -> {len(self.labels)} labels, "
            f"{' '.join(shown)})"
        )


def evaluation_logits(
    model: nn.Module,
) -> Callable[[Any, Float[Array, "batch ..."]], Float[Array, "batch classes"]]:
    """``(variables, x) -> logits`` of a module in evaluation mode, local where the module is.

    Equal modules have one function: victims that differ in their variables alone share programs.
    """
    try:
        return _evaluation_logits(model)
    except TypeError:  # a field of the module has no hash
        return _evaluation_logits.__wrapped__(model)


@functools.lru_cache(maxsize=16)
def _evaluation_logits(model: nn.Module) -> Callable[..., Any]:
    if isinstance(model, LocalNetwork):
        return LocalEvaluation(model)
    return functools.partial(model.apply, train=False)


@dataclasses.dataclass(frozen=True, eq=False)
class LocalEvaluation:
    """A module in evaluation mode as a :class:`jaxser.attacks.base.LocalFunction`."""

    model: Any

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."]
    ) -> Float[Array, "batch classes"]:
        return self.model.apply(variables, x, train=False)

    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        return self.model.is_local(shape, positions)

    def encode(self, variables: Any, x: Float[Array, "batch ..."]) -> Any:
        return self.model.apply(variables, x, method="encode")

    def logits_at(
        self,
        variables: Any,
        x: Float[Array, "batch ..."],
        encoding: Any,
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions channels"],
    ) -> Float[Array, "batch candidates classes"]:
        return self.model.apply(variables, x, encoding, index, values, method="logits_at")
