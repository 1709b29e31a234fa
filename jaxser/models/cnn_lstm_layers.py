"""The layers of a CNN-LSTM as its module has them, for people to look at.

    for layer in cnn_lstm_layers(jaxser.models.build("cnn_lstm", 5), frames=261, mels=128):
        layer.name, layer.output, layer.parameters

Facchinetti et al., 2024, figure 3.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.models.cnn_lstm import CnnLstm

__all__ = ["Layer", "cnn_lstm_layers"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One step of a network.

    Attributes:
      name: what it does, with its settings.
      output: shape of what it gives for one input.
      parameters: numbers that it holds, batch statistics included.
    """

    name: str
    output: tuple[int, ...]
    parameters: int = 0


def cnn_lstm_layers(module: CnnLstm, frames: int, mels: int) -> list[Layer]:
    """The steps from a spectrogram to logits, in order.

    Args:
      module: unbound.
      frames, mels: of the spectrograms.

    Raises:
      InputError: the spectrogram is too small for it.
    """
    x = jax.ShapeDtypeStruct((1, frames, mels), jnp.float32)
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)

    def held(name: str) -> int:
        own = [tree[name] for tree in shapes.values() if name in tree]
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(own))

    slices = module.frames_read(frames) // module.slice_frames
    rows, bands, channels = module.slice_frames, mels, 1
    layers = [
        Layer("log-mel", (frames, mels)),
        Layer(f"slices of {rows} frames", (slices, rows, bands, channels)),
    ]
    for index, block in enumerate(module.blocks):
        rows, bands = rows - block.kernel + 1, bands - block.kernel + 1
        channels = block.channels
        kernel = f"{block.kernel} × {block.kernel}"
        shape = (slices, rows, bands, channels)
        layers.append(Layer(f"convolution {kernel}, ReLU", shape, held(f"Conv_{index}")))
        if index == 0:
            layers.append(Layer("batch norm", shape, held("BatchNorm_0")))
        rows, bands = ((size - block.window) // block.stride + 1 for size in (rows, bands))
        window = f"{block.window} × {block.window}"
        name = f"max-pool {window}, stride {block.stride}"
        layers.append(Layer(name, (slices, rows, bands, channels)))
    features = rows * bands * channels
    layers.append(Layer("flatten", (slices, features)))
    if module.dropout:
        layers.append(Layer(f"dropout {module.dropout:g}", (slices, features)))
    readers = ("forward", "backward") if module.bidirectional else ("forward",)
    of_input = f", input dropout {module.lstm_dropout:g}" if module.lstm_dropout else ""
    both = "bidirectional " if module.bidirectional else ""
    lstm = f"{both}LSTM, {module.units} units{of_input}"
    layers.append(Layer(lstm, (len(readers) * module.units,), sum(map(held, readers))))
    layers.append(Layer("dense: logits", (module.num_classes,), held("Dense_0")))
    return layers
