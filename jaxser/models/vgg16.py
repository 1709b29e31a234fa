"""VGG16 without batch norm, on images of spectrograms.

    model = jaxser.models.build("vgg16", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, configuration D; behind ImageNet's 1000 logits the linear layer of Echim et al.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.models.layers.conv2d import max_pool
from jaxser.models.layers.dense import Dense, emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.image_conv import HE, ImageConv
from jaxser.models.layers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised_images,
)
from jaxser.models.layers.precision import at_least_float32

__all__ = ["Vgg16"]


class Vgg16(nn.Module):
    """VGG16; 138,364,551 parameters at 7 classes.

    Attributes:
      num_classes: logits per image.
      blocks: channels of the convolutions of each block, behind which the image is halved.
      hidden: width of the two hidden layers.
      imagenet_classes: logits before the last linear layer.
      image_size: height and width of an image.
      dropout: of what the two hidden layers give, in training.
      mean, std: of the colours, which are normalised by them.
      dtype: computed in; the last two linear layers are in float32.
    """

    num_classes: int
    blocks: tuple[tuple[int, ...], ...] = (
        (64, 64),
        (128, 128),
        (256, 256, 256),
        (512, 512, 512),
        (512, 512, 512),
    )
    hidden: int = 4096
    imagenet_classes: int = 1000
    image_size: int = 224
    dropout: float = 0.5
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Any = jnp.float32

    @property
    def grid(self) -> int:
        """Rows, and columns, of the last feature map: seven of an image of 224 by 224."""
        return self.image_size // 2 ** len(self.blocks)

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        self.conv = [
            ImageConv(features, size=3, padding=1, dtype=self.dtype)
            for block in self.blocks
            for features in block
        ]
        self.fc = [product_dense(self.hidden, self.dtype, HE) for _ in range(2)]
        self.dropouts = [nn.Dropout(self.dropout) for _ in range(2)]
        self.classifier = Dense(self.imagenet_classes)
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
        y = normalised_images("VGG16", x, self.image_size, self.mean, self.std, self.dtype)
        convolutions = iter(self.conv)
        for block in self.blocks:
            for _ in block:
                y = nn.relu(next(convolutions)(y))
            y = max_pool(y, 2, 2)
        y = feature_map(self, y, self.grid, self.grid)
        y = y.reshape(len(y), -1)
        for dropout, dense in zip(self.dropouts, self.fc, strict=True):
            y = dropout(nn.relu(dense(y)), deterministic=not train)
        return self.classifier(y.astype(wide))
