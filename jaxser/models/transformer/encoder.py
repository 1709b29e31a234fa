"""The transformer itself: blocks of attention and dense layers, one by one or as one loop.

Source of layer drop: Fan et al., "Reducing Transformer Depth on Demand with Structured Dropout",
ICLR 2020.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.waveform import before_padding
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.models.transformer.attention import Attention
from jaxser.models.transformer.configuration import AttentionKernel, SpeechConfig
from jaxser.models.transformer.layers import dense, layer_norm
from jaxser.models.transformer.positional_convolution import PositionalConvolution

__all__ = ["Block", "Encoder"]


class Block(nn.Module):
    """Attention and two dense layers, each with a residual connection and a layer norm.

    The norm comes after the addition, or before the layers (``do_stable_layer_norm``).
    """

    config: SpeechConfig
    attention: type[Attention]
    train: bool
    kernel: AttentionKernel = "xla"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        drop: Any,
        counts: Int[Array, " batch"] | None,
        shared: Any,
    ) -> Float[Array, "batch frames hidden"]:
        """``drop`` is the probability of being skipped, or None."""
        config, start = self.config, x
        attention = self.attention(
            config, self.train, self.kernel, self.dtype, self.param_dtype, name="attention"
        )
        norm, last_norm = layer_norm(self, "attention_norm"), layer_norm(self, "norm")
        dropout = nn.Dropout(config.hidden_dropout, deterministic=not self.train)
        if config.do_stable_layer_norm:
            x = x + dropout(attention(norm(x), counts, shared))
            x = x + self._feed_forward(last_norm(x))
        else:
            x = norm(x + dropout(attention(x, counts, shared)))
            x = last_norm(x + self._feed_forward(x))
        # One draw for the whole batch, as in the torch classes. A skipped block is computed all the
        # same: ``vmap`` would make a choice of a branch, too.
        if drop is not None:
            skipped = jax.random.bernoulli(self.make_rng("dropout"), drop)
            x = jnp.where(skipped, start, x)
        return x

    def _feed_forward(
        self, x: Float[Array, "batch frames hidden"]
    ) -> Float[Array, "batch frames hidden"]:
        config, still = self.config, not self.train
        x = dense(self, "intermediate", config.intermediate_size)(x)
        x = ACTIVATIONS[config.hidden_act](x)
        x = nn.Dropout(config.activation_dropout, deterministic=still)(x)
        x = dense(self, "output", config.hidden_size)(x)
        return nn.Dropout(config.hidden_dropout, deterministic=still)(x)


class Encoder(nn.Module):
    """Positional convolution and transformer blocks.

    Attributes:
      attention: of the family.
      shared: module that makes, of the number of frames, what all layers share; or None.
      keep_first: layer drop never skips the first block (WavLM).
    """

    config: SpeechConfig
    attention: type[Attention]
    shared: type[nn.Module] | None
    keep_first: bool
    kernel: AttentionKernel
    scan_layers: bool
    remat: bool
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        counts: Int[Array, " batch"] | None,
        train: bool,
        keep_states: bool,
    ) -> tuple[
        Float[Array, "batch frames hidden"], tuple[Float[Array, "batch frames hidden"], ...]
    ]:
        """(last state, input of the first block and output of every block if asked for).

        The last state is normalised; where the norms come first, the last of the others is not.
        """
        config = self.config
        if counts is not None:
            # The positional convolution sees beyond a row's last frame.
            valid = before_padding(counts, x.shape[1])
            x = jnp.where(valid[..., None], x, 0)
        position = PositionalConvolution(config, self.dtype, self.param_dtype, name="position")
        norm = layer_norm(self, "norm")
        x = x + position(x, train)
        if not config.do_stable_layer_norm:
            x = norm(x)
        x = nn.Dropout(config.hidden_dropout, deterministic=not train)(x)
        # Once for all layers, whose own part of the bias is a gate.
        shared = None
        if self.shared is not None:
            shared = self.shared(config, self.param_dtype, name="shared")(x.shape[1])

        drops = None
        if train and config.layerdrop > 0:
            drops = np.full(config.num_hidden_layers, config.layerdrop, np.float32)
            drops[0] = 0 if self.keep_first else config.layerdrop
        blocks = self._scanned if self.scan_layers else self._unrolled
        start = x
        x, states = blocks(x, drops, counts, shared, train, keep_states)
        if config.do_stable_layer_norm:
            x = norm(x)
        return x, (start, *states) if keep_states else ()

    def _block(self, train: bool) -> Callable[..., nn.Module]:
        # Without barriers XLA would merge the blocks' second computation with their first and keep
        # everything after all; in the body of a scan it cannot.
        block: Any = nn.remat(Block, prevent_cse=not self.scan_layers) if self.remat else Block

        def make(name: str, block: Any = block) -> nn.Module:
            return block(
                self.config,
                self.attention,
                train,
                self.kernel,
                self.dtype,
                self.param_dtype,
                name=name,
            )

        return make

    def _unrolled(
        self, x: Array, drops: Any, counts: Any, shared: Any, train: bool, keep_states: bool
    ) -> tuple[Array, list[Array]]:
        states = []
        make = self._block(train)
        for layer in range(self.config.num_hidden_layers):
            drop = None if drops is None else jnp.asarray(drops[layer])
            x = make(f"layer{layer}")(x, drop, counts, shared)
            if keep_states:
                states.append(x)
        return x, states

    def _scanned(
        self, x: Array, drops: Any, counts: Any, shared: Any, train: bool, keep_states: bool
    ) -> tuple[Array, list[Array]]:
        def body(block: nn.Module, x: Array, drop: Any) -> tuple[Array, Array | None]:
            x = block(x, drop, counts, shared)
            return x, x if keep_states else None

        scan = nn.scan(
            body,
            variable_axes={"params": 0},
            # Every layer has initial weights and dropout masks of its own.
            split_rngs={"params": True, "dropout": True},
            length=self.config.num_hidden_layers,
        )
        drops = None if drops is None else jnp.asarray(drops)
        x, states = scan(self._block(train)("layers"), x, drops)
        return x, [] if states is None else list(states)
