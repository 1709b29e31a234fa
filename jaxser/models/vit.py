"""ViT-B/16 on images of spectrograms.

    model = jaxser.models.build("vit-b16", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", ICLR 2021; behind ImageNet's 1000 logits the linear layer of Echim et al. Blocks are
pre-norm, their activation is the exact GELU, and the class token alone is classified.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.models.layers.dense import Dense, emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised_images,
)
from jaxser.models.layers.initialisers import KERNEL
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.transformer.activations import gelu

__all__ = ["ViT"]

_XAVIER = nn.initializers.xavier_uniform()


class ViT(nn.Module):
    """A vision transformer, by default ViT-B/16; 86,574,663 parameters at 7 classes.

    Attributes:
      num_classes: logits per image.
      width, depth, heads, mlp: of the encoder; numbers of a token, blocks, heads of the attention,
        numbers between a block's last two layers.
      patch: rows, and columns, of a patch.
      imagenet_classes: logits before the last linear layer.
      image_size: height and width of an image, a multiple of ``patch``.
      dropout: of the tokens, of what attention gives and behind both last layers of a block, in
        training.
      attention_dropout: of the attention's weights, in training.
      norm_eps: added to the variance by the layer norms; 1e-6 in torchvision and timm, 1e-12 in
        transformers.
      mean, std: of the colours, which are normalised by them.
      dtype: computed in; statistics, softmax and the last two linear layers are in float32.
    """

    num_classes: int
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    imagenet_classes: int = 1000
    image_size: int = 224
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm_eps: float = 1e-6
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        side = self.image_size // self.patch
        tokens = side**2 + 1
        self.class_token = self.param("class_token", nn.initializers.zeros, (self.width,))
        self.positions = self.param("positions", nn.initializers.normal(0.02), (tokens, self.width))
        # A convolution whose windows do not overlap, as the product that it is.
        self.patches = product_dense(self.width, self.dtype, KERNEL)
        self.drop = nn.Dropout(self.dropout)
        self.block = [
            _Block(
                self.heads,
                self.mlp,
                self.dropout,
                self.attention_dropout,
                self.norm_eps,
                self.dtype,
                side if index == self.depth - 1 else None,
            )
            for index in range(self.depth)
        ]
        self.norm = _layer_norm(self.norm_eps, self.dtype)
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
        y = normalised_images("ViT", x, self.image_size, self.mean, self.std, self.dtype)
        batch, side, patch = len(y), self.image_size // self.patch, self.patch
        y = y.reshape(batch, side, patch, side, patch, 3).transpose(0, 1, 3, 2, 4, 5)
        y = self.patches(y.reshape(batch, side * side, patch * patch * 3))
        first = jnp.broadcast_to(self.class_token.astype(self.dtype), (batch, 1, self.width))
        y = jnp.concatenate([first, y], axis=1) + self.positions.astype(self.dtype)[None]
        y = self.drop(y, deterministic=not train)
        for block in self.block[:-1]:
            y = block(y, train)
        # Only the class token is asked for: of the others the last block needs keys and values.
        y = self.block[-1](y, train, tokens=1)
        return self.classifier(self.norm(y[:, 0]).astype(wide))


class _Block(nn.Module):
    """Attention, then two dense layers, each behind a layer norm and beside a residual.

    What attention reads in a block with a ``map_side`` is the network's feature map: what comes
    after it reaches the logits by the class token alone, so that its gradient is zero elsewhere.
    """

    heads: int
    mlp: int
    dropout: float
    attention_dropout: float
    norm_eps: float
    dtype: Any
    map_side: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], train: bool, tokens: int | None = None
    ) -> Float[Array, "batch first width"]:
        """Of the first ``tokens``, or all."""

        def dropout(y: Array, rate: float = self.dropout) -> Array:
            return nn.Dropout(rate)(y, deterministic=not train)

        width = x.shape[-1]
        y = _layer_norm(self.norm_eps, self.dtype, "attention_norm")(x)
        if self.map_side is not None:
            y = feature_map(self, y, self.map_side, self.map_side, tokens_before=1)
        y = self._attention(y, tokens, lambda y: dropout(y, self.attention_dropout))
        x = x[:, :tokens] + dropout(y)
        y = _layer_norm(self.norm_eps, self.dtype, "mlp_norm")(x)
        y = gelu(product_dense(self.mlp, self.dtype, _XAVIER, "intermediate")(y))
        return x + dropout(product_dense(width, self.dtype, _XAVIER, "output")(dropout(y)))

    def _attention(
        self, x: Float[Array, "batch tokens width"], tokens: int | None, dropout: Any
    ) -> Float[Array, "batch first width"]:
        batch, places, width = x.shape
        qkv = product_dense(3 * width, self.dtype, _XAVIER, "qkv")(x)
        qkv = qkv.reshape(batch, places, 3, self.heads, width // self.heads)
        # Heads in front: the two products of a head then read rows that lie together.
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        # Scores and softmax in float32: the product of bfloat16 operands leaves its sums unrounded.
        wide = at_least_float32(self.dtype)
        query = query[:, :, :tokens] * query.shape[-1] ** -0.5
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
        weights = dropout(nn.softmax(scores).astype(self.dtype))
        y = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
        y = y.transpose(0, 2, 1, 3).reshape(batch, -1, width)
        return product_dense(width, self.dtype, _XAVIER, "out")(y)


def _layer_norm(epsilon: float, dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """As PyTorch has it; statistics in float32."""
    # Flax's fast variance, the mean of squares less the square of the mean, loses what is small
    # beside the mean.
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)
