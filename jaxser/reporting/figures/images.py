"""Spectrograms as victims of images see them, before and after an attack."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import new_figure
from jaxser.speech.features import Spectrogram
from jaxser.speech.images import SpectrogramImage
from jaxser.speech.mel import mel_filters

__all__ = ["name_bands", "spectrogram_images_figure"]

_LINEAR_HERTZ = range(0, 24_001, 2_000)
_MEL_HERTZ = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
_LOG_HERTZ = (64, 125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
_COEFFICIENTS = range(0, 1_001, 50)


def spectrogram_images_figure(
    title: str,
    front_ends: Mapping[str, SpectrogramImage],
    clean: Mapping[str, Float[np.ndarray, "rows columns channels"]],
    attacked: Mapping[str, Float[np.ndarray, "rows columns channels"]] | None = None,
) -> Figure:
    """Images in columns; in rows clean, attacked, and by how much the attack changes a pixel.

    After figure 2a of Echim et al. The change is that of the pixel's channel that changes most, in
    255ths, as ε is mostly given.

    Args:
      title: shown above.
      front_ends: what made the images, by the name above a column.
      clean: images of the same names: colours (3 channels) or levels (1) in [0, 1], the lowest band
        in the last row.
      attacked: the same after an attack.
    """
    columns = len(front_ends)
    rows = 1 if attacked is None else 3
    figure = new_figure((0.8 + 2.8 * columns, 0.6 + 2.5 * rows))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    changes = {
        name: 255 * np.abs(attacked[name] - clean[name]).max(axis=2) if attacked else None
        for name in front_ends
    }
    largest = max(
        (float(change.max()) for change in changes.values() if change is not None), default=0
    )
    for column, (name, front_end) in enumerate(front_ends.items()):
        places = list(grid[:, column])
        places[0].set_title(name)
        _draw(places[0], clean[name], front_end)
        if attacked is not None:
            _draw(places[1], attacked[name], front_end)
            drawn = places[2].imshow(
                changes[name],
                extent=_extent(front_end),
                aspect="auto",
                cmap="magma",
                vmin=0.0,
                vmax=max(largest, 1e-6),
                interpolation="nearest",
            )
            name_bands(places[2], front_end.spectrogram, front_end.size)
            if column == columns - 1:
                figure.colorbar(drawn, ax=grid[2].tolist(), fraction=0.02, label="change (1/255)")
        places[-1].set_xlabel("s")
    for place, words in zip(grid[:, 0], ("clean", "attacked", "change"), strict=False):
        place.set_ylabel(f"{words}\n{place.get_ylabel()}")
    figure.suptitle(title)
    return figure


def _draw(
    place: Axes, image: Float[np.ndarray, "rows columns channels"], front_end: SpectrogramImage
) -> None:
    shown = image[..., 0] if image.shape[2] == 1 else image
    place.imshow(
        np.clip(shown, 0.0, 1.0),
        extent=_extent(front_end),
        aspect="auto",
        cmap="jet",
        vmin=0.0,
        vmax=1.0,
        interpolation="nearest",
    )
    name_bands(place, front_end.spectrogram, front_end.size)


def _extent(front_end: SpectrogramImage) -> tuple[float, float, float, float]:
    seconds = front_end.samples / front_end.spectrogram.sample_rate
    return (0.0, seconds, 0.0, float(front_end.size))


def name_bands(place: Axes, spectrogram: Spectrogram, size: int) -> None:
    """Round frequencies at the height of their band; of MFCC the numbers of coefficients."""
    bands = np.arange(spectrogram.bins)
    named: Sequence[int]
    if spectrogram.kind == "mfcc":
        centres, named, label = bands.astype(float), _COEFFICIENTS, "coefficient"
    elif spectrogram.kind == "linear":
        centres = np.linspace(0.0, spectrogram.sample_rate / 2, spectrogram.bins)
        named, label = _LINEAR_HERTZ, "Hz"
    elif spectrogram.kind == "cqt":
        centres = spectrogram.fmin * 2.0 ** (bands / spectrogram.bins_per_octave)
        named, label = _LOG_HERTZ, "Hz"
    else:
        centres, named, label = _mel_centres(spectrogram), _MEL_HERTZ, "Hz"
    shown = [value for value in named if centres[0] <= value <= centres[-1] * 1.03]
    heights = (np.interp(shown, centres, bands) + 0.5) * size / spectrogram.bins
    place.set_yticks(heights, [f"{value:,}" for value in shown])
    place.set_ylabel(label)


def _mel_centres(spectrogram: Spectrogram) -> Float[np.ndarray, " bands"]:
    """The frequency at which each filter is largest, in Hz."""
    rate = spectrogram.sample_rate
    fmax = rate / 2 if spectrogram.fmax is None else spectrogram.fmax
    # Of a fine grid: that of the FFT gives low bands the same one.
    filters = mel_filters(
        rate, 16_384, spectrogram.n_mels, spectrogram.fmin, fmax, spectrogram.htk, norm=False
    )
    return np.linspace(0.0, rate / 2, len(filters))[filters.argmax(axis=0)]
