"""Spectrograms of speech before and after attacks, and of what attacks change."""

from collections.abc import Mapping

import matplotlib.mlab
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import new_figure
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
    """Original, adversarial speech and difference: waveforms above, log-mel spectrograms below.

    After STAA-Net's Figure 3. The waveform of the difference has a scale of its own, which its axis
    says; the colours mean the same in all spectrograms, 100 dB from the loudest.

    Args:
      title: shown above.
      x: speech.
      x_adv: the same after an attack.
      sample_rate: of both, in Hz.
    """
    figure = new_figure((12, 5))
    above, below = figure.subplots(2, 3, sharex=True)
    seconds = np.arange(len(x)) / sample_rate
    parts = {"original": x, "adversarial": x_adv, "difference": x_adv - x}
    filters = _mel_filters(sample_rate, _frame_length(len(x), sample_rate))
    loudness = {name: _log_mel(samples, filters) for name, samples in parts.items()}
    loudest = max(float(values.max()) for values in loudness.values())
    for axes, image, (name, samples) in zip(above, below, parts.items(), strict=True):
        axes.plot(seconds, samples, linewidth=0.5)
        axes.set_title(name)
        reach = float(np.abs(samples if name == "difference" else [x, x_adv]).max())
        axes.set_ylim(-1.05 * reach - 1e-9, 1.05 * reach + 1e-9)
        image.imshow(
            loudness[name],
            origin="lower",
            aspect="auto",
            extent=(0.0, float(seconds[-1]), -0.5, len(loudness[name]) - 0.5),
            vmin=loudest - 100,
            vmax=loudest,
            cmap="magma",
        )
        image.set_yticks(*_mel_ticks(filters, sample_rate))
        image.set_xlabel("s")
    above[0].set_ylabel("amplitude")
    below[0].set_ylabel("Hz (mel scale)")
    figure.colorbar(below[-1].images[0], ax=below, label="dB")
    figure.suptitle(title)
    return figure


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
