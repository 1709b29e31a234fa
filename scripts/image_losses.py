"""What a picture of speech hides, counted on WAV files: the table of docs/benchmark.md.

    python -m scripts.image_losses FOLDER

The first and the middle second of up to 80 files of the folder, of those that are a second long.
The change of a pixel is one of ±32/255 of every channel, drawn at random.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxser.models.image_front_end import WithImage, fit_range
from jaxser.results.cells import markdown_table
from jaxser.runtime.errors import UsageError, report_errors
from jaxser.speech.audio import read_audio, resample, to_mono
from jaxser.speech.colours import dead_share, jet, nearest_level
from jaxser.speech.images import IMAGE_KINDS, SpectrogramImage, image_spectrogram

RATE, MOST_FILES, BATCH = 16_000, 80, 32
CHANGE = np.float32(32 / 255)
LINES = (
    "fitted range, dB",
    "cells without a gradient",
    "cells within 0.02 of the median level",
    "distance of a changed pixel to the nearest colour of the map",
    "change in dB of that colour",
)


def seconds_of(folder: Path) -> np.ndarray:
    """The first and the middle second of files, evenly taken; ``[seconds, 16000]``."""
    files = sorted(folder.rglob("*.wav"))
    found = []
    for path in files[:: max(len(files) // MOST_FILES, 1)][:MOST_FILES]:
        speech, rate = read_audio(path)
        speech = resample(to_mono(speech), rate, RATE)
        if len(speech) >= RATE:
            middle = (len(speech) - RATE) // 2
            found += [speech[:RATE], speech[middle : middle + RATE]]
    if len(found) < BATCH:
        raise UsageError(f"{folder} has fewer than {BATCH // 2} WAV files of a second; give more.")
    return np.stack(found[: len(found) // BATCH * BATCH])


def losses_of(kind: Any, x: np.ndarray) -> list[str]:
    """The cells of one kind of image, in the order of ``LINES``."""
    front_end = SpectrogramImage(image_spectrogram(kind))
    batches = np.split(x, len(x) // BATCH)
    # The range is fitted by the front end alone; the network behind it is not asked.
    found = fit_range(WithImage(front_end, nn.Module()), batches)
    low, high = (found[end].item() for end in ("lowest", "highest"))
    unclipped_of = jax.jit(front_end.unclipped)
    unclipped = np.concatenate([unclipped_of(batch, low, high) for batch in batches])
    levels = np.clip(unclipped, 0, 1)
    colours = np.asarray(jet(jnp.asarray(levels[..., 0])))
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), colours.shape)
    nearest, distance = nearest_level(jnp.asarray(np.clip(colours + signs * CHANGE, 0, 1)))
    moved = np.abs(np.asarray(nearest) - levels[..., 0]).mean() * (high - low)
    return [
        f"{low:.1f} to {high:.1f}",
        f"{dead_share(jnp.asarray(unclipped)).mean().item():.2%}",
        f"{(np.abs(levels - np.median(levels)) < 0.02).mean():.1%}",
        f"{distance.mean().item():.3f}",
        f"{moved:.1f}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise UsageError("give one folder of WAV files: python -m scripts.image_losses FOLDER.")
    x = seconds_of(Path(arguments[0]))
    columns = [losses_of(kind, x) for kind in IMAGE_KINDS]
    print(markdown_table([["", *IMAGE_KINDS], *map(list, zip(LINES, *columns, strict=True))]))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
