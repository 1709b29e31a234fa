"""Figures for people, made with matplotlib from numbers alone.

    from jaxser.reporting import figures
    figures.save_figure(figures.confusion_figure(matrix, labels, "test"), "confusion.png")

Names are imported on first use: spectrograms need JAX for their filters, and other pictures of a
report need not wait for it.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face

if TYPE_CHECKING:
    from jaxser.reporting.figures.bars import bars_figure as bars_figure
    from jaxser.reporting.figures.bars import log_bars_figure as log_bars_figure
    from jaxser.reporting.figures.canvas import save_figure as save_figure
    from jaxser.reporting.figures.canvas import shortened as shortened
    from jaxser.reporting.figures.confusion import confusion_figure as confusion_figure
    from jaxser.reporting.figures.confusion import draw_confusion as draw_confusion
    from jaxser.reporting.figures.embedding import embedding_figure as embedding_figure
    from jaxser.reporting.figures.explanations import agreement_figure as agreement_figure
    from jaxser.reporting.figures.explanations import confusions_figure as confusions_figure
    from jaxser.reporting.figures.explanations import (
        spectrogram_maps_figure as spectrogram_maps_figure,
    )
    from jaxser.reporting.figures.explanations import waveform_maps_figure as waveform_maps_figure
    from jaxser.reporting.figures.images import (
        spectrogram_images_figure as spectrogram_images_figure,
    )
    from jaxser.reporting.figures.spectrograms import perturbation_figure as perturbation_figure
    from jaxser.reporting.figures.spectrograms import spectrograms_figure as spectrograms_figure

__all__ = [
    "agreement_figure",
    "bars_figure",
    "confusion_figure",
    "confusions_figure",
    "draw_confusion",
    "embedding_figure",
    "log_bars_figure",
    "perturbation_figure",
    "save_figure",
    "shortened",
    "spectrogram_images_figure",
    "spectrogram_maps_figure",
    "spectrograms_figure",
    "waveform_maps_figure",
]

_MODULES = {
    "agreement_figure": "explanations",
    "bars_figure": "bars",
    "confusion_figure": "confusion",
    "confusions_figure": "explanations",
    "draw_confusion": "confusion",
    "embedding_figure": "embedding",
    "log_bars_figure": "bars",
    "perturbation_figure": "spectrograms",
    "save_figure": "canvas",
    "shortened": "canvas",
    "spectrogram_images_figure": "images",
    "spectrogram_maps_figure": "explanations",
    "spectrograms_figure": "spectrograms",
    "waveform_maps_figure": "explanations",
}

__getattr__, __dir__ = face(__name__, _MODULES)
