"""The CNN-LSTM of Echim et al. on images of spectrograms.

    model = jaxser.models.build("echim_cnn_lstm", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Echim et al.; four modules of convolution, batch norm, ELU and max-pool, then an LSTM whose
steps are the CHANNELS of the last feature map, each of them read as one vector. The paper gives no
activation between the two linear layers; by default there is none. Batch norm is PyTorch's.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import NORM_EPSILON, RunningStatistics, moments
from jaxser.models.layers.conv2d import max_pool
from jaxser.models.layers.dense import emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.image_conv import image_conv
from jaxser.models.layers.images import normalised_images
from jaxser.models.layers.initialisers import BIAS, KERNEL
from jaxser.models.layers.lstm import LSTM
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.models.zhao19 import elu
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["EchimCnnLstm"]


class EchimCnnLstm(nn.Module):
    """The paper's CNN-LSTM; 33,321,191 parameters at 7 classes by PyTorch's count.

    Attributes:
      num_classes: logits per image.
      channels: of the four convolutions.
      units: of the LSTM.
      hidden: width of the layer between the LSTM and the logits.
      hidden_activation: of that layer, a name of transformers such as "relu"; "linear" is none.
      image_size: height and width of an image.
      dropout: of the hidden layer, in training.
      mean, std: of the colours, which are normalised by them; by default they are left alone.
      dtype: computed in; statistics, the LSTM's cell and the logits are in float32.
    """

    num_classes: int
    channels: tuple[int, ...] = (32, 64, 128, 128)
    units: int = 256
    hidden: int = 1000
    hidden_activation: str = "linear"
    image_size: int = 224
    dropout: float = 0.4
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    dtype: Any = jnp.float32

    @property
    def grid(self) -> int:
        """Rows, and columns, of the last feature map: 13 of an image of 224 by 224."""
        size = self.image_size
        for _ in self.channels:
            size = (size - 1) // 2
        return size

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        if self.hidden_activation not in ACTIVATIONS:
            raise UsageError(
                f"there is no activation {self.hidden_activation!r}; "
                f"{nearest_name(self.hidden_activation, ACTIVATIONS)}"
            )
        self.block = [_Block(features, self.dtype) for features in self.channels]
        self.lstm = LSTM(self.units, self.dtype)
        self.fc = product_dense(self.hidden, self.dtype)
        self.drop = nn.Dropout(self.dropout)
        self.head = emotion_head(self.num_classes, self.hidden)

    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch classes"]:
        """Logits of images ``[batch, image_size, image_size, 3]`` in [0, 1].

        Args:
          x: images.
          train: normalise by the batch's statistics and update the running ones (the caller
            makes the collection ``batch_stats`` mutable); drop what ``dropout`` says.

        Raises:
          InputError: ``x`` is no batch of images of this size.
        """
        return self.head(self.embed(x, train))

    def embed(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch hidden"]:
        """What the last linear layer reads: the hidden layer, after its dropout in training."""
        wide = at_least_float32(self.dtype)
        y = normalised_images("the CNN-LSTM", x, self.image_size, self.mean, self.std, self.dtype)
        for block in self.block:
            y = block(y, train)
        y = feature_map(self, y, self.grid, self.grid)
        batch, rows, columns, channels = y.shape
        # A step is a channel, of which a PyTorch tensor has rows and columns in one piece.
        y = self.lstm(y.reshape(batch, rows * columns, channels).swapaxes(1, 2))
        y = ACTIVATIONS[self.hidden_activation](self.fc(y.reshape(batch, -1)).astype(wide))
        return self.drop(y, deterministic=not train)


class _Block(nn.Module):
    """Convolution of 2 by 2 without padding, batch norm, ELU, max-pool of 2 by 2.

    Pooling comes before norm and ELU here, as in :class:`jaxser.models.conv_lstm.ConvBlock`, which
    says why. Batch statistics still see every number.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch rows columns features"]:
        wide = at_least_float32(self.dtype)
        per_feature = (self.features,)
        kernel = self.param("kernel", KERNEL, (2, 2, x.shape[-1], self.features))
        bias = self.param("bias", BIAS, per_feature)
        scale = self.param("norm_scale", nn.initializers.ones, per_feature)
        shift = self.param("norm_bias", nn.initializers.zeros, per_feature)
        running = RunningStatistics.of(self, self.features)

        # The largest under a falling map is the smallest of before.
        sign = jnp.where(scale < 0, -1, 1).astype(wide)
        kernel = (kernel.astype(wide) * sign[None, None, None]).astype(self.dtype)
        y = image_conv(x, kernel).astype(wide)
        pooled = max_pool(y, 2, 2)
        # Up to here without bias, and with the scale's sign.
        if train:
            mean, variance = moments(y.reshape(len(y), -1, self.features))
            if not self.is_initializing():
                running.update(mean * sign + bias, variance, y.size // self.features)
        else:
            mean, variance = (running.mean.value - bias) * sign, running.var.value
        # Not |scale|, whose derivative at 0 would be 0 for good.
        slope = sign * scale * lax.rsqrt(variance + NORM_EPSILON)
        y = pooled * slope[None, None, None] + (shift - mean * slope)[None, None, None]
        return elu(y).astype(self.dtype)
