"""What wav2vec 2.0, HuBERT and WavLM have in common: all but their attention.

    waveform -> FeatureEncoder -> FeatureProjection -> Encoder -> ClassificationHead -> logits

    model = jaxser.models.build("wav2vec2-base", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)               # x [batch, time] -> [batch, 7]
    states = model.apply(variables, x, method="hidden_states")    # 13 x [batch, frames, 768]

The parts are in :mod:`jaxser.models.transformer`. Fields of a configuration have the names of
Hugging Face's ``config.json`` and ``preprocessor_config.json``, and the semantics are those of its
PyTorch classes, to float32's rounding. The order of the work is not: everything is ``[batch, time,
channels]``, the three projections of attention are one product, and the mean over frames comes
before the projector, with which it commutes.

Sources: Baevski et al., "wav2vec 2.0", NeurIPS 2020; Hsu et al., "HuBERT", TASLP 2021.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.waveform import check_waveforms, normalise_input
from jaxser.models.transformer.attention import Attention
from jaxser.models.transformer.classification_head import ClassificationHead
from jaxser.models.transformer.configuration import AttentionKernel, SpeechConfig
from jaxser.models.transformer.encoder import Encoder
from jaxser.models.transformer.feature_encoder import FeatureEncoder, FeatureProjection
from jaxser.models.transformer.spec_augment import span_mask

__all__ = ["SpeechTransformer"]


class SpeechTransformer(nn.Module):
    """A speech transformer with a classification head; the base of the three families.

    Its parameters are four groups: ``feature_encoder`` (usually frozen in fine-tuning),
    ``feature_projection``, ``encoder`` (blocks ``layer0`` ..., or all in ``layers`` if
    scanned, see ``stack_layers`` in ``jaxser.victims.key_tables.speech_transformer``) and ``head``;
    and ``masked_frame``, the embedding that SpecAugment puts in masked frames.

    In training, dropout, layer drop and SpecAugment draw from the collection "dropout".

    Attributes:
      num_classes: length of a row of logits.
      config: the architecture.
      dtype: type of activations and products; bfloat16 is allowed.
      param_dtype: type of the parameters.
      scan_layers: the blocks are one compiled loop: compiles faster, wants less memory with
        ``remat``; slower on a CPU.
      remat: compute the blocks anew for their gradients instead of keeping what is in them.
      attention: "xla", or "cudnn" (NVIDIA GPUs, half precision, no attention dropout).
      normalise_last_state: the last hidden state of a ``do_stable_layer_norm`` model is the
        normalised one, in the list and in the weighted sum, as in transformers 4; transformers 5
        takes the state before the norm.
    """

    num_classes: int
    config: SpeechConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    scan_layers: bool = False
    remat: bool = False
    attention: AttentionKernel = "xla"
    normalise_last_state: bool = False

    attention_type: ClassVar[type[Attention]] = Attention
    shared_type: ClassVar[type[nn.Module] | None] = None
    keep_first: ClassVar[bool] = False

    def setup(self) -> None:
        config, types = self.config, (self.dtype, self.param_dtype)
        self.feature_encoder = FeatureEncoder(config, *types)
        self.feature_projection = FeatureProjection(config, *types)
        self.encoder = Encoder(
            config,
            self.attention_type,
            self.shared_type,
            self.keep_first,
            self.attention,
            self.scan_layers,
            self.remat,
            *types,
        )
        self.head = ClassificationHead(self.num_classes, config, self.param_dtype)
        if config.masks:
            self.masked_frame = self.param(
                "masked_frame", nn.initializers.uniform(1.0), (config.hidden_size,), types[1]
            )

    def __call__(
        self,
        x: Float[Array, "batch ..."],
        train: bool = False,
        lengths: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits of waveforms ``x``.

        Args:
          x: waveforms ``[batch, time]``, as recorded: they are normalised here where the
            configuration says so.
          train: with dropout, layer drop and SpecAugment, from the rng collection "dropout".
          lengths: samples before each row's padding begins, at least ``config.shortest_input()``;
            frames of padding are then masked out, as torch's are by an ``attention_mask``. Leave
            it out where the checkpoint's ``return_attention_mask`` is false: such a model was
            trained with its padding.

        Raises:
          InputError: ``x`` is not a batch of waveforms or is shorter than the receptive field.
        """
        sums = self.config.use_weighted_layer_sum
        last, states, counts = self._encode(x, train, lengths, keep_states=sums)
        return self.head(last, states, counts)

    def embed(
        self, x: Float[Array, "batch ..."], train: bool = False
    ) -> Float[Array, "batch projected"]:
        """What the last linear layer reads of waveforms: the projector's output."""
        sums = self.config.use_weighted_layer_sum
        return self.head.embed(*self._encode(x, train, None, keep_states=sums))

    def hidden_states(
        self,
        x: Float[Array, "batch ..."],
        train: bool = False,
        lengths: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch frames hidden"], ...]:
        """What goes into the first block and comes out of every block; arguments as in a call."""
        return self._encode(x, train, lengths, keep_states=True)[1]

    def _encode(self, x: Any, train: bool, lengths: Any, keep_states: bool) -> tuple[Any, Any, Any]:
        config = self.config
        check_waveforms(type(self).__name__, x, config.shortest_input())
        x = x.astype(at_least_float32(self.dtype))
        if config.do_normalize:
            x = normalise_input(x, lengths)
        counts = None if lengths is None else jnp.maximum(config.frames(lengths), 1)
        y = self.feature_projection(self.feature_encoder(x), train)
        if train and config.masks and config.apply_spec_augment:
            y = self._masked(y, counts)
        last, states = self.encoder(y, counts, train, keep_states)
        if keep_states and config.do_stable_layer_norm and self.normalise_last_state:
            states = (*states[:-1], last)
        return last, states, counts

    def _masked(
        self, y: Float[Array, "batch frames hidden"], counts: Any
    ) -> Float[Array, "batch frames hidden"]:
        # Each ``make_rng`` is another key: Flax folds in the module's path and counts its calls.
        config = self.config
        batch, frames, width = y.shape
        if config.mask_time_prob > 0:
            counts = jnp.full(batch, frames) if counts is None else counts
            masked = span_mask(
                self.make_rng("dropout"),
                counts,
                frames,
                config.mask_time_prob,
                config.mask_time_length,
                config.mask_time_min_masks,
            )
            y = jnp.where(masked[..., None], self.masked_frame.astype(y.dtype)[None, None], y)
        if config.mask_feature_prob > 0:
            masked = span_mask(
                self.make_rng("dropout"),
                jnp.full(batch, width),
                width,
                config.mask_feature_prob,
                config.mask_feature_length,
                config.mask_feature_min_masks,
            )
            y = jnp.where(masked[:, None], 0, y)
        return y
