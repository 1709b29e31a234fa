"""Emo18: three convolution blocks on the waveform, then an LSTM.

    model = jaxser.models.build("emo18", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)        # x [batch, time] -> [batch, 7]

Source: Tzirakis, Zhang, Schuller, "End-to-End Speech Emotion Recognition Using Deep Neural
Networks", ICASSP 2018, in the form attacked by STAA-Net (arXiv 2402.01227, section IV).
"""

from typing import ClassVar

from flax import linen as nn
from jaxtyping import Array

from jaxser.models.conv_lstm import ConvLSTM

__all__ = ["Emo18"]


class Emo18(ConvLSTM):
    """Emo18; 1,302,087 parameters at 7 classes by PyTorch's count (two biases per LSTM)."""

    blocks: ClassVar = ((64, 8, 3, 10), (128, 6, 2, 8), (256, 6, 2, 8))

    @staticmethod
    def activation(y: Array) -> Array:
        """LeakyReLU."""
        return nn.leaky_relu(y, negative_slope=0.01)
