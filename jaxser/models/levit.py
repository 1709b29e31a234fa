"""LeViT, a vision transformer shaped like a convolutional network, on images of spectrograms.

    model = jaxser.models.build("levit-256", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Graham et al., "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference",
ICCV 2021; behind ImageNet's 1000 logits the linear layer of Echim et al. There are two heads, one
trained on the labels and one on a teacher, and ImageNet's logits are their mean, in training too.
Every product is without a bias and is followed by a batch norm over images and tokens.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.batch_norm import BatchNorm
from jaxser.models.layers.dense import Dense, emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised_images,
)
from jaxser.models.layers.initialisers import KERNEL
from jaxser.models.layers.patch_conv import PatchConv
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.stochastic_depth import drop_path

__all__ = [
    "SHRINKING_MLP_RATIO",
    "SHRINKING_VALUE_RATIO",
    "Levit",
    "Levit128",
    "Levit128s",
    "Levit192",
    "Levit384",
    "distances",
]

# Of the blocks between two stages, in every published LeViT: values over keys, and numbers between
# the two products after them over the width.
SHRINKING_VALUE_RATIO = 4
SHRINKING_MLP_RATIO = 2

_STEM = 4


def distances(side: int, stride: int = 1) -> Int[np.ndarray, "queries keys"]:
    """Place in a table of biases for every pair of a query and a key on a square grid.

    The place is |difference of rows| · side + |difference of columns|; queries are every
    ``stride``-th row and column.
    """
    places = np.arange(side)
    apart = np.abs(places[::stride, None] - places[None])  # [queries of an axis, keys of it]
    table = apart[:, None, :, None] * side + apart[None, :, None, :]
    return table.reshape(len(apart) ** 2, side**2)


class Levit(nn.Module):
    """LeViT, by default LeViT-256; 18,900,883 parameters at 7 classes, both heads.

    Attributes:
      num_classes: logits per image.
      widths, depths, heads: of each stage: numbers of a token, blocks, heads of the attention.
      key_size: numbers of a key, and of a query, in every head.
      value_ratio: numbers of a value over those of a key, within a stage.
      mlp_ratio: numbers between a block's last two products, over the width.
      imagenet_classes: logits before the last linear layer.
      image_size: height and width of an image, a multiple of 16.
      dropout: of what the two heads read, in training.
      drop_path: share of rows in which a residual branch is left out, in training.
      mean, std: of the colours, which are normalised by them.
      dtype: computed in; statistics, softmax and the last linear layers are in float32.
    """

    num_classes: int
    widths: tuple[int, ...] = (256, 384, 512)
    depths: tuple[int, ...] = (4, 4, 4)
    heads: tuple[int, ...] = (4, 6, 8)
    key_size: int = 32
    value_ratio: int = 2
    mlp_ratio: int = 2
    imagenet_classes: int = 1000
    image_size: int = 224
    dropout: float = 0.0
    drop_path: float = 0.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Any = jnp.float32

    @nn.nowrap
    def sides(self) -> tuple[int, ...]:
        """Rows, and columns, of each stage's tokens."""
        sides = [self.image_size // 2**_STEM]
        for _ in self.widths[1:]:
            sides.append((sides[-1] + 1) // 2)
        return tuple(sides)

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        self.stem = [
            _ConvNorm(self.widths[0] // 2 ** (_STEM - 1 - index), self.dtype)
            for index in range(_STEM)
        ]
        blocks, sides, ratio = [], self.sides(), self.value_ratio
        for stage, (width, side) in enumerate(zip(self.widths, sides, strict=True)):
            if stage:
                before, finer = self.widths[stage - 1], sides[stage - 1]
                attention = _Attention(
                    width,
                    before // self.key_size,
                    self.key_size,
                    SHRINKING_VALUE_RATIO * self.key_size,
                    finer,
                    2,
                    self.dtype,
                    name=f"shrink_{stage - 1}",
                )
                mlp = _Mlp(SHRINKING_MLP_RATIO * width, self.dtype, name=f"shrink_{stage - 1}_mlp")
                blocks.append((attention, mlp))
            for index in range(self.depths[stage]):
                name = f"stage_{stage}_block_{index}"
                attention = _Attention(
                    width,
                    self.heads[stage],
                    self.key_size,
                    ratio * self.key_size,
                    side,
                    1,
                    self.dtype,
                    name=f"{name}_attention",
                )
                mlp = _Mlp(self.mlp_ratio * width, self.dtype, name=f"{name}_mlp")
                blocks.append((attention, mlp))
        self.blocks = blocks
        self.norm, self.teacher_norm = BatchNorm(), BatchNorm()
        self.drop, self.teacher_drop = nn.Dropout(self.dropout), nn.Dropout(self.dropout)
        small = nn.initializers.truncated_normal(0.02)
        self.classifier = Dense(self.imagenet_classes, kernel_init=small)
        self.teacher_classifier = Dense(self.imagenet_classes, kernel_init=small)
        self.head = emotion_head(self.num_classes, self.imagenet_classes)

    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch classes"]:
        """Logits of images ``[batch, image_size, image_size, 3]`` in [0, 1].

        Args:
          x: images.
          train: normalise by the batch's statistics and update the running ones (the caller makes
            the collection ``batch_stats`` mutable); drop what the fields say, by the rng collection
            "dropout".

        Raises:
          InputError: ``x`` is no batch of images of this size.
          UsageError: a batch of one image in training.
        """
        return self.head(self.embed(x, train))

    def embed(
        self, x: Float[Array, "batch ..."], train: bool
    ) -> Float[Array, "batch imagenet_classes"]:
        """What the last linear layer reads: ImageNet's logits, the mean of the two heads."""
        wide = at_least_float32(self.dtype)
        y = normalised_images("LeViT", x, self.image_size, self.mean, self.std, self.dtype)
        for index, conv in enumerate(self.stem):
            y = conv(nn.hard_swish(y) if index else y, train)
        y = y.reshape(len(y), -1, y.shape[-1])
        for attention, mlp in self.blocks:
            y = self._beside(y, attention, train) if attention.stride == 1 else attention(y, train)
            y = self._beside(y, mlp, train)
        y = feature_map(self, y, self.sides()[-1], self.sides()[-1])
        y = y.astype(wide).mean(axis=1)
        by_label = self.classifier(self.drop(self.norm(y, train), deterministic=not train))
        y = self.teacher_drop(self.teacher_norm(y, train), deterministic=not train)
        return (by_label + self.teacher_classifier(y)) / 2

    def _beside(self, y: Array, branch: Any, train: bool) -> Array:
        """A residual branch, added to what it reads."""
        return y + drop_path(self, branch(y, train), self.drop_path, train)


class Levit128s(Levit):
    """LeViT-128S; its stages are of unequal depth."""

    widths: tuple[int, ...] = (128, 256, 384)
    depths: tuple[int, ...] = (2, 3, 4)
    heads: tuple[int, ...] = (4, 6, 8)
    key_size: int = 16


class Levit128(Levit):
    """LeViT-128."""

    widths: tuple[int, ...] = (128, 256, 384)
    heads: tuple[int, ...] = (4, 8, 12)
    key_size: int = 16


class Levit192(Levit):
    """LeViT-192."""

    widths: tuple[int, ...] = (192, 288, 384)
    heads: tuple[int, ...] = (3, 5, 6)


class Levit384(Levit):
    """LeViT-384."""

    widths: tuple[int, ...] = (384, 512, 768)
    heads: tuple[int, ...] = (6, 9, 12)
    drop_path: float = 0.1


class _ConvNorm(nn.Module):
    """A convolution of 3 by 3 at every second place, and a batch norm."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch rows columns features"]:
        y = PatchConv(self.features, 3, 2, 1, use_bias=False, dtype=self.dtype, name="conv")(x)
        return BatchNorm(self.dtype, name="norm")(y, train)


class _DenseNorm(nn.Module):
    """A product and a batch norm over images and tokens."""

    features: int
    dtype: Any
    scale_init: Any = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> Float[Array, "batch tokens features"]:
        y = product_dense(self.features, self.dtype, KERNEL, "dense", use_bias=False)(x)
        return BatchNorm(self.dtype, self.scale_init, name="norm")(y, train)


class _Mlp(nn.Module):
    """Two products with a hard swish between them; as a residual branch it begins as nothing."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> Float[Array, "batch tokens width"]:
        y = nn.hard_swish(_DenseNorm(self.hidden, self.dtype, name="up")(x, train))
        return _DenseNorm(x.shape[-1], self.dtype, nn.initializers.zeros, name="down")(y, train)


class _Attention(nn.Module):
    """Attention with a bias per distance and a hard swish BEFORE its last product.

    With stride 2 the queries are those of every second row and column, and there is no residual.
    """

    features: int
    heads: int
    key_size: int
    value_size: int
    side: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> Float[Array, "batch places features"]:
        query, key, value = self._projections(x, train)
        biases = self.param("biases", nn.initializers.zeros, (self.heads, self.side**2))
        # Scores and softmax in float32: the product of bfloat16 operands leaves its sums unrounded.
        wide = at_least_float32(self.dtype)
        query = query * self.key_size**-0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)
        scores = scores + biases[:, distances(self.side, self.stride)].astype(wide)[None]
        weights = nn.softmax(scores).astype(self.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        y = nn.hard_swish(y.reshape(*y.shape[:2], -1))
        init = nn.initializers.zeros if self.stride == 1 else nn.initializers.ones
        return _DenseNorm(self.features, self.dtype, init, name="out")(y, train)

    def _projections(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and values ``[batch, places, heads, size]``."""
        key, value = self.key_size, self.value_size
        sizes = (key, key, value) if self.stride == 1 else (key, value)
        name = "qkv" if self.stride == 1 else "kv"
        y = _DenseNorm(self.heads * sum(sizes), self.dtype, name=name)(x, train)
        y = y.reshape(*y.shape[:2], self.heads, -1)
        parts = [
            y[..., sum(sizes[:index]) : sum(sizes[: index + 1])] for index in range(len(sizes))
        ]
        if self.stride > 1:
            batch, _, width = x.shape
            coarse = x.reshape(batch, self.side, self.side, width)
            coarse = coarse[:, :: self.stride, :: self.stride].reshape(batch, -1, width)
            query = _DenseNorm(self.heads * key, self.dtype, name="q")(coarse, train)
            parts.insert(0, query.reshape(*query.shape[:2], self.heads, key))
        return tuple(parts)  # type: ignore[return-value]
