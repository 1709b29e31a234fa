"""AlexNet, in the form of "One weird trick", on images of spectrograms.

    model = jaxser.models.build("alexnet", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, as
torchvision has it; behind ImageNet's 1000 logits the linear layer of Echim et al.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.models.layers.conv2d import max_pool
from jaxser.models.layers.dense import Dense, emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.image_conv import ImageConv
from jaxser.models.layers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised_images,
)
from jaxser.models.layers.initialisers import AS_TORCH
from jaxser.models.layers.precision import at_least_float32

__all__ = ["CONVOLUTIONS", "AlexNet"]

# (kernel, stride, padding, whether a max-pool of 3 by 3 at every second place follows)
CONVOLUTIONS = (
    (11, 4, 2, True),
    (5, 1, 2, True),
    (3, 1, 1, False),
    (3, 1, 1, False),
    (3, 1, 1, True),
)


class AlexNet(nn.Module):
    """AlexNet; 61,107,847 parameters at 7 classes.

    Attributes:
      num_classes: logits per image.
      channels: of the five convolutions.
      hidden: width of the two hidden layers.
      imagenet_classes: logits before the last linear layer.
      image_size: height and width of an image.
      dropout: of what the two hidden layers read, in training.
      mean, std: of the colours, which are normalised by them.
      dtype: computed in; the last two linear layers are in float32.
    """

    num_classes: int
    channels: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: int = 4096
    imagenet_classes: int = 1000
    image_size: int = 224
    dropout: float = 0.5
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Any = jnp.float32

    @property
    def grid(self) -> int:
        """Rows, and columns, of the last feature map: six of an image of 224 by 224."""
        size = self.image_size
        for kernel, stride, padding, pooled in CONVOLUTIONS:
            size = (size + 2 * padding - kernel) // stride + 1
            size = (size - 3) // 2 + 1 if pooled else size
        return size

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        self.conv = [
            ImageConv(features, kernel, stride, padding, self.dtype, AS_TORCH)
            for features, (kernel, stride, padding, _) in zip(
                self.channels, CONVOLUTIONS, strict=True
            )
        ]
        # From larger kernels Adam's first steps, which are of one size for all of the 38 million
        # weights behind the feature map, throw the logits out of range.
        self.fc = [product_dense(self.hidden, self.dtype, AS_TORCH) for _ in range(2)]
        self.dropouts = [nn.Dropout(self.dropout) for _ in range(2)]
        self.classifier = Dense(self.imagenet_classes, kernel_init=AS_TORCH)
        self.head = emotion_head(self.num_classes, self.imagenet_classes)

    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch classes"]:
        """Logits of images ``[batch, image_size, image_size, 3]`` in [0, 1].

        Raises:
          InputError: ``x`` is no batch of images of this size.
        """
        return self.head(self.embed(x, train))

    def embed(
        self, x: Float[Array, "batch ..."], train: bool
    ) -> Float[Array, "batch imagenet_classes"]:
        """What the last linear layer reads: ImageNet's logits."""
        wide = at_least_float32(self.dtype)
        y = normalised_images("AlexNet", x, self.image_size, self.mean, self.std, self.dtype)
        for conv, (*_, pooled) in zip(self.conv, CONVOLUTIONS, strict=True):
            y = nn.relu(conv(y))
            y = max_pool(y, 3, 2) if pooled else y
        y = feature_map(self, y, self.grid, self.grid)
        y = y.reshape(len(y), -1)
        for dropout, dense in zip(self.dropouts, self.fc, strict=True):
            y = nn.relu(dense(dropout(y, deterministic=not train)))
        return self.classifier(y.astype(wide))
