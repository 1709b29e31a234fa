"""A tiny wav2vec 2.0 classifier in a folder of Hugging Face's layout, of speech at 8 kHz."""

from pathlib import Path

import jax
import jax.numpy as jnp

from jaxser.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from jaxser.victims.hugging_face.writing import write_pretrained

CONFIG = Wav2Vec2Config(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8, 8),
    conv_kernel=(10, 3),
    conv_stride=(5, 2),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    classifier_proj_size=8,
    mask_time_length=2,
    sampling_rate=8000,
)


def make_pretrained(folder: Path, labels: tuple[str, ...]) -> Path:
    """Write one, untrained, for such labels."""
    module = Wav2Vec2(num_classes=len(labels), config=CONFIG)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 800)))
    write_pretrained(module, jax.device_get(variables), labels, folder)
    return folder
