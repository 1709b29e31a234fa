"""From waveforms to logits of an image victim: in one program, and as scripts do it.

    sides = pipeline_sides(pair, "mel", Setting(), waveforms)

The other side is librosa (the batch in one call), PyTorch's resizing, matplotlib's jet and the
victim in PyTorch.
"""

from typing import TYPE_CHECKING, Any

from benchmarks.generator_sides import Side
from benchmarks.image_sides import Pair, Setting, sides_of

if TYPE_CHECKING:
    import numpy as np

    from jaxser.speech.images import ImageKind

__all__ = ["KINDS", "RATE", "pipeline_sides", "waveforms"]

KINDS: "tuple[ImageKind, ...]" = ("mel", "linear")
RATE = 16_000


def waveforms(rows: int) -> "np.ndarray":
    """A second of a hum in noise, each row with a pitch of its own; ``[rows, 16000]``."""
    import numpy as np

    time = np.arange(RATE) / RATE
    pitch = 100.0 + 20.0 * np.arange(rows)[:, None]
    hum = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 20))
    noise = np.random.default_rng(0).normal(size=(rows, RATE))
    return (0.1 * hum + 0.02 * noise).astype(np.float32)


def pipeline_sides(
    pair: Pair, kind: "ImageKind", setting: Setting, x: "np.ndarray"
) -> dict[str, Side]:
    """Both sides; the range of colours is that of waveforms ``x``."""
    decibels = _decibels(kind, x)
    lowest, highest = (float(end(axis=(1, 2)).mean()) for end in (decibels.min, decibels.max))
    task = f"pipeline, {kind}"
    gflop = {task: pair.gflop}  # the network's alone
    sides = {"jaxser": _jax_side(pair, kind, task, gflop, (lowest, highest))}
    for name, side in sides_of(pair, "forward", setting).items():
        if side.peer:
            name = name.replace("torch", "librosa, matplotlib, torch")
            sides[name] = _peer_side(side, kind, task, gflop, (lowest, highest))
    return sides


def _jax_side(
    pair: Pair, kind: "ImageKind", task: str, gflop: Any, ends: tuple[float, float]
) -> Side:
    import jax
    import jax.numpy as jnp

    from jaxser.models.image_front_end import WithImage
    from jaxser.speech.images import SpectrogramImage, image_spectrogram

    front_end = SpectrogramImage(image_spectrogram(kind), size=pair.module.image_size)
    model = WithImage(front_end, pair.module.clone(parent=None), fixed_range=ends)
    variables = {name: {"network": tree} for name, tree in pair.variables.items()}
    logits = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
    return Side(jnp.asarray, {task: lambda x: jax.block_until_ready(logits(variables, x))}, gflop)


def _decibels(kind: str, x: "np.ndarray") -> "np.ndarray":
    """librosa's, ``[rows, bands, frames]``; what lies 80 below a row's loudest is cut off."""
    import librosa
    import numpy as np

    frames = {"hop_length": 70, "win_length": 256}
    if kind == "linear":
        amplitudes = np.abs(librosa.stft(x, n_fft=446, **frames))
        return np.stack([librosa.amplitude_to_db(each) for each in amplitudes])
    powers = librosa.feature.melspectrogram(y=x, sr=RATE, n_fft=2048, n_mels=224, **frames)
    return np.stack([librosa.power_to_db(each) for each in powers])


def _peer_side(network: Side, kind: str, task: str, gflop: Any, ends: tuple[float, float]) -> Side:
    import numpy as np
    import torch
    from matplotlib import colormaps

    jet, (lowest, highest) = colormaps["jet"], ends

    def run(x: "np.ndarray") -> Any:
        level = (_decibels(kind, x)[:, ::-1] - lowest) / (highest - lowest)
        size = (224, 224)
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(level.copy())[:, None], size, mode="bilinear", antialias=True
        )[:, 0]
        images = jet(resized.clamp(0, 1).numpy())[..., :3].astype(np.float32)
        return network.runs["forward"](network.place(images))

    return Side(lambda x: x, {task: run}, gflop, peer=True)
