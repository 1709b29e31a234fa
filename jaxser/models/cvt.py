"""CvT, a vision transformer with convolutions, on images of spectrograms.

    model = jaxser.models.build("cvt-21", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, 224, 224, 3] in [0, 1]

Source: Wu et al., "CvT: Introducing Convolutions to Vision Transformers", ICCV 2021; behind
ImageNet's 1000 logits the linear layer of Echim et al. Three things are not as one would guess, and
are as in the authors' code: the scores of attention are divided by the square root of a token's
WHOLE width, not of a head's; the layer norms' epsilon is 1e-5, whatever a ``config.json`` says; and
the authors' weights were trained with QuickGELU, where transformers computes the exact GELU.

In training, dropped paths follow the authors as well: within a stage their rate rises from 0 in the
first block to the stage's in the last, and only branches are dropped. transformers gives all blocks
of a stage one rate, and drops the residual with the second branch.
"""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import BatchNorm
from jaxser.models.layers.dense import Dense, emotion_head, product_dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised_images,
)
from jaxser.models.layers.patch_conv import DepthwiseConv, PatchConv
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.stochastic_depth import drop_path
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.runtime.errors import UsageError

__all__ = ["GELUS", "Cvt", "Cvt21", "Gelu"]

Gelu = Literal["exact", "quick"]

# Names of the two GELUs among the activations.
GELUS = {"exact": "gelu", "quick": "quick_gelu"}

_NORM_EPSILON = 1e-5
_INIT = nn.initializers.truncated_normal(0.02)


class Cvt(nn.Module):
    """CvT, by default CvT-13.

    Attributes:
      num_classes: logits per image.
      widths, depths, heads: of each stage: numbers of a token, blocks, heads of the attention.
      mlp_ratios: numbers between a block's last two layers, over the width.
      patch_sizes, patch_strides, patch_paddings: of the convolution before each stage, in pixels.
      key_strides: of the convolutions that keys and values come from.
      gelu: "exact", as transformers has it, or "quick", x·σ(1.702 x), as the authors' weights had.
      imagenet_classes: logits before the last linear layer.
      image_size: height and width of an image.
      dropout: of the tokens before a stage and of what a block's two branches give, in training.
      attention_dropout: of the attention's weights, in training.
      drop_path: of each stage: share of rows in which its last block's branches are left out, in
        training.
      mean, std: of the colours, which are normalised by them.
      dtype: computed in; statistics, softmax and the last two linear layers are in float32.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 192, 384)
    depths: tuple[int, ...] = (1, 2, 10)
    heads: tuple[int, ...] = (1, 3, 6)
    mlp_ratios: tuple[float, ...] = (4.0, 4.0, 4.0)
    patch_sizes: tuple[int, ...] = (7, 3, 3)
    patch_strides: tuple[int, ...] = (4, 2, 2)
    patch_paddings: tuple[int, ...] = (2, 1, 1)
    key_strides: tuple[int, ...] = (2, 2, 2)
    gelu: Gelu = "exact"
    imagenet_classes: int = 1000
    image_size: int = 224
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: tuple[float, ...] = (0.0, 0.0, 0.1)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """The layers, under the names of their variables."""
        if self.gelu not in GELUS:
            raise UsageError(f"gelu must be exact or quick, not {self.gelu!r}.")
        last = len(self.widths) - 1
        self.stage = [
            _Stage(
                width,
                self.depths[index],
                self.heads[index],
                round(width * self.mlp_ratios[index]),
                self.patch_sizes[index],
                self.patch_strides[index],
                self.patch_paddings[index],
                self.key_strides[index],
                index == last,
                self.gelu,
                self.dropout,
                self.attention_dropout,
                self.drop_path[index],
                self.dtype,
            )
            for index, width in enumerate(self.widths)
        ]
        self.norm = _layer_norm(self.dtype)
        self.classifier = Dense(self.imagenet_classes, kernel_init=_INIT)
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
        """
        return self.head(self.embed(x, train))

    def embed(
        self, x: Float[Array, "batch ..."], train: bool
    ) -> Float[Array, "batch imagenet_classes"]:
        """What the last linear layer reads: ImageNet's logits."""
        wide = at_least_float32(self.dtype)
        y = normalised_images("CvT", x, self.image_size, self.mean, self.std, self.dtype)
        for stage in self.stage:
            y = stage(y, train)
        # The last stage gives its class token alone.
        return self.classifier(self.norm(y).astype(wide))


class Cvt21(Cvt):
    """CvT-21; 31,629,703 parameters at 7 classes."""

    depths: tuple[int, ...] = (1, 4, 16)


class _Stage(nn.Module):
    """Convolution to tokens, then blocks; the last stage has a class token, and gives only that."""

    width: int
    depth: int
    heads: int
    mlp: int
    patch_size: int
    patch_stride: int
    patch_padding: int
    key_stride: int
    classifies: bool
    gelu: Gelu
    dropout: float
    attention_dropout: float
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch ..."]:
        y = PatchConv(
            self.width,
            self.patch_size,
            self.patch_stride,
            self.patch_padding,
            dtype=self.dtype,
            kernel_init=_INIT,
            name="patches",
        )(x)
        y = _layer_norm(self.dtype, "patches_norm")(y)
        batch, rows, columns, width = y.shape
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        y = y.reshape(batch, rows * columns, width)
        if self.classifies:
            first = self.param("class_token", _INIT, (width,)).astype(self.dtype)
            y = jnp.concatenate([jnp.broadcast_to(first, (batch, 1, width)), y], axis=1)
        rates = np.linspace(0, self.drop_path, self.depth)
        for index in range(self.depth):
            y = _Block(
                self.heads,
                self.mlp,
                (rows, columns),
                self.key_stride,
                self.classifies,
                self.gelu,
                self.dropout,
                self.attention_dropout,
                float(rates[index]),
                self.dtype,
                self.classifies and index == self.depth - 1,
                name=f"block_{index}",
            )(y, train)
        return y[:, 0] if self.classifies else y.reshape(batch, rows, columns, width)


class _Block(nn.Module):
    """Attention, then two dense layers, each behind a layer norm and beside a residual.

    What attention reads in the ``last`` block is the network's feature map: what comes after it
    reaches the logits by the class token alone, so that its gradient is zero elsewhere.
    """

    heads: int
    mlp: int
    size: tuple[int, int]
    key_stride: int
    classifies: bool
    gelu: Gelu
    dropout: float
    attention_dropout: float
    drop_path: float
    dtype: Any
    last: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> Float[Array, "batch places width"]:
        def branch(y: Array) -> Array:
            y = nn.Dropout(self.dropout)(y, deterministic=not train)
            return drop_path(self, y, self.drop_path, train)

        width = x.shape[-1]
        y = _layer_norm(self.dtype, "attention_norm")(x)
        if self.last:
            y = feature_map(self, y, *self.size, tokens_before=1)
        y = self._attention(y, train)
        x = x[:, : y.shape[1]] + branch(y)
        y = _layer_norm(self.dtype, "mlp_norm")(x)
        y = product_dense(self.mlp, self.dtype, _INIT, "intermediate")(y)
        y = ACTIVATIONS[GELUS[self.gelu]](y)
        return x + branch(product_dense(width, self.dtype, _INIT, "output")(y))

    def _attention(
        self, x: Float[Array, "batch tokens width"], train: bool
    ) -> Float[Array, "batch places width"]:
        batch, _, width = x.shape
        strides = {"query": 1, "key": self.key_stride, "value": self.key_stride}
        # Heads in front: the two products of a head then read rows that lie together.
        query, key, value = (
            self._projection(x, part, stride, train)
            .reshape(batch, -1, self.heads, width // self.heads)
            .swapaxes(1, 2)
            for part, stride in strides.items()
        )
        if self.last:
            # The class token is classified; of the others their keys and values are needed alone.
            query = query[:, :, :1]
        # Scores and softmax in float32: the product of bfloat16 operands leaves its sums unrounded.
        wide = at_least_float32(self.dtype)
        # By the width of all heads together, as the weights were trained.
        query = query * width**-0.5
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
        # A softmax whose division comes after the product with the values: those are few, while the
        # first stage has 3136 × 784 weights for every image. The largest score cancels out.
        weights = jnp.exp(scores - lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights.astype(self.dtype)
        weights = nn.Dropout(self.attention_dropout)(weights, deterministic=not train)
        y = jnp.einsum("bhqk,bhkd->bhqd", weights, value, preferred_element_type=wide)
        y = (y / total).astype(self.dtype).swapaxes(1, 2).reshape(batch, -1, width)
        return product_dense(width, self.dtype, _INIT, "out")(y)

    def _projection(
        self, x: Float[Array, "batch tokens width"], part: str, stride: int, train: bool
    ) -> Float[Array, "batch places width"]:
        """Queries, keys or values: convolution, batch norm, dense layer; the last of all tokens."""
        batch, _, width = x.shape
        image = x[:, 1:] if self.classifies else x
        image = image.reshape(batch, *self.size, width)
        y = DepthwiseConv(stride, self.dtype, _INIT, name=f"{part}_conv")(image)
        y = BatchNorm(self.dtype, name=f"{part}_norm")(y, train).reshape(batch, -1, width)
        if self.classifies:
            y = jnp.concatenate([x[:, :1], y], axis=1)
        return product_dense(width, self.dtype, _INIT, part)(y)


def _layer_norm(dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """As PyTorch has it; statistics in float32."""
    # Flax's fast variance, the mean of squares less the square of the mean, loses what is small
    # beside the mean.
    return nn.LayerNorm(epsilon=_NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)
