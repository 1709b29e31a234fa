"""Zhao19: four convolution blocks on the waveform, then an LSTM.

    model = jaxser.models.build("zhao19", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)        # x [batch, time] -> [batch, 7]

Source: Zhao, Mao, Chen, "Speech emotion recognition using deep 1D & 2D CNN LSTM networks",
Biomedical Signal Processing and Control 47 (2019), the 1D network, in the form attacked by
STAA-Net (arXiv 2402.01227, section IV).
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.models.conv_lstm import ConvLSTM

__all__ = ["Zhao19", "elu"]


@jax.custom_jvp
def elu(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """ELU; its derivative is taken from its value, so that the input need not be kept."""
    return jnp.where(y > 0, y, jnp.expm1(jnp.minimum(y, 0)))


@elu.defjvp
def _elu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = elu(*primals)
    return value, tangents[0] * jnp.where(value > 0, 1, value + 1)


class Zhao19(ConvLSTM):
    """Zhao19; 1,010,759 parameters at 7 classes by PyTorch's count (two biases per LSTM)."""

    blocks: ClassVar = ((64, 3, 1, 4), (64, 3, 1, 4), (128, 3, 1, 4), (128, 3, 1, 4))

    @staticmethod
    def activation(y: Array) -> Array:
        """ELU."""
        return elu(y)
