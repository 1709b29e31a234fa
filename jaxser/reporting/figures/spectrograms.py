"""Spectrograms of speech before and after attacks, and of what attacks change."""

from collections.abc import Mapping
from typing import Any

import matplotlib.mlab
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import COLUMN, column_figure, new_figure, shortened
from jaxser.speech.mel import mel_filters

__all__ = ["perturbation_figure", "spectrograms_figure"]

_MEL_BANDS = 64


def spectrograms_figure(
    title: str,
    original: Float[np.ndarray, "frames bins"],
    attacked: Mapping[str, Float[np.ndarray, "frames bins"]],
    seconds: float,
    unit: str = "dB",
) -> Figure:
    """Original, attacked and difference side by side, a row per attack.

    Args:
      title: shown above.
      original: spectrogram.
      attacked: the same after each attack.
      seconds: length of the utterance.
      unit: of the spectrograms.
    """
    rows = len(attacked)
    size = (11, 0.6 + 2.1 * rows)
    figure = new_figure(size)
    grid = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
    low, high = float(original.min()), float(original.max())
    extent = (0.0, seconds, 0.0, float(original.shape[1]))
    for axes, (name, values) in zip(grid, attacked.items(), strict=True):
        change = values - original
        reach = max(float(np.abs(change).max()), 1e-6)
        shown = [(original, low, high, "magma"), (values, low, high, "magma")]
        shown.append((change, -reach, reach, "RdBu_r"))
        for place, (image, least, most, colours) in zip(axes, shown, strict=True):
            drawn = place.imshow(
                image.T,
                origin="lower",
                aspect="auto",
                extent=extent,
                vmin=least,
                vmax=most,
                cmap=colours,
                interpolation="nearest",
            )
            figure.colorbar(drawn, ax=place, fraction=0.046)
        axes[0].set_ylabel(f"{name}\nband")
    for place, heading in zip(
        grid[0], (f"original ({unit})", f"attacked ({unit})", "difference"), strict=True
    ):
        place.set_title(heading)
    for place in grid[-1]:
        place.set_xlabel("s")
    figure.suptitle(title)
    return figure


def perturbation_figure(
    title: str,
    x: Float[np.ndarray, " time"],
    x_adv: Float[np.ndarray, " time"],
    sample_rate: int,
) -> Figure:
    """Original, adversarial speech and difference: samples above, log-mel spectrograms below.

    After STAA-Net's Figure 3, less what cannot be seen there: a difference that goes to its bound
    at every sample is a solid block as a waveform, so its level over time stands beside that of the
    speech, and its spectrogram has a scale of its own. The scale of both others is 80 dB from the
    loudest.

    Args:
      title: shown above.
      x: speech.
      x_adv: the same after an attack.
      sample_rate: of both, in Hz.
    """
    figure = column_figure(3.6, 2 * COLUMN)
    above, below = figure.subplots(2, 3, sharex=True)
    seconds = np.arange(len(x)) / sample_rate
    parts = {"original": x, "adversarial": x_adv, "difference": x_adv - x}
    frame = _frame_length(len(x), sample_rate)
    filters = _mel_filters(sample_rate, frame)
    loudness = {name: _log_mel(samples, filters) for name, samples in parts.items()}
    loudest = max(float(loudness[name].max()) for name in ("original", "adversarial"))
    reach = 1.05 * float(np.abs([x, x_adv]).max()) + 1e-9
    for axes, name in zip(above[:2], ("original", "adversarial"), strict=True):
        # Thousands of points are a picture within the picture.
        axes.plot(seconds, parts[name], linewidth=0.4, rasterized=True)
        axes.set_ylim(-reach, reach)
        axes.set_title(name, fontsize=8)
    _draw_levels(above[2], x, parts["difference"], frame, sample_rate)
    above[2].set_title("level (dB)", fontsize=8)
    below[2].set_title("difference", fontsize=8)
    # The loudest, and how many dB below it are shown.
    scales = ((loudest, 80), (loudest, 80), (float(loudness["difference"].max()), 40))
    for image, samples, (top, span) in zip(below, loudness.values(), scales, strict=True):
        image.imshow(
            samples,
            origin="lower",
            aspect="auto",
            extent=(0.0, float(seconds[-1]), -0.5, len(samples) - 0.5),
            vmin=top - span,
            vmax=top,
            cmap="magma",
        )
        image.set_yticks(*_mel_ticks(filters, sample_rate))
        image.set_xlabel("s")
    above[0].set_ylabel("amplitude")
    below[0].set_ylabel("Hz (mel scale)")
    figure.colorbar(below[1].images[0], ax=below[:2], label="dB")
    figure.colorbar(below[2].images[0], ax=below[2], label="dB")
    figure.suptitle(shortened(title), fontsize=8)
    return figure


def _draw_levels(
    axes: Any,
    x: Float[np.ndarray, " time"],
    difference: Float[np.ndarray, " time"],
    frame: int,
    sample_rate: int,
) -> None:
    """Root mean square of every frame in dB below full scale, of speech and of the difference."""
    for name, samples, style in (("speech", x, "-"), ("difference", difference, "--")):
        whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
        # Digital silence is drawn at the level of one bit of 20.
        level = 20 * np.log10(np.sqrt((whole.astype(float) ** 2).mean(1)) + 1e-6)
        axes.plot((np.arange(len(whole)) + 0.5) * frame / sample_rate, level, style, label=name)
    axes.grid(alpha=0.6)
    axes.legend(fontsize=6)


def _frame_length(samples: int, sample_rate: int) -> int:
    """About 32 ms, and even."""
    return min(2 ** round(np.log2(0.032 * sample_rate)), samples // 2 * 2)


def _mel_filters(sample_rate: int, n_fft: int) -> Float[np.ndarray, "bins bands"]:
    return mel_filters(sample_rate, n_fft, _MEL_BANDS, 0.0, sample_rate / 2, htk=False, norm=False)


def _log_mel(
    samples: Float[np.ndarray, " time"], filters: Float[np.ndarray, "bins bands"]
) -> Float[np.ndarray, "bands frames"]:
    size = 2 * (len(filters) - 1)
    power = np.asarray(matplotlib.mlab.specgram(samples, size, noverlap=3 * size // 4)[0], float)
    # Silence, as most of a sparse difference is, must not be a logarithm of zero.
    return 10 * np.log10(filters.T @ power + 1e-16)


def _mel_ticks(
    filters: Float[np.ndarray, "bins bands"], sample_rate: int
) -> tuple[list[float], list[str]]:
    """Places of round frequencies among the bands."""
    centres = np.linspace(0, sample_rate / 2, len(filters))[filters.argmax(axis=0)]
    named = [hertz for hertz in (250, 500, 1000, 2000, 4000, 8000) if hertz <= centres[-1]]
    return [float(np.interp(hertz, centres, np.arange(len(centres)))) for hertz in named], [
        f"{hertz:,}" for hertz in named
    ]
