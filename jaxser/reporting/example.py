"""One attacked utterance to look at and to listen to."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.spectrograms import perturbation_figure
from jaxser.speech.audio import write_wav

__all__ = ["write_example"]


def write_example(
    folder: Path,
    title: str,
    x: Float[np.ndarray, " time"],
    x_adv: Float[np.ndarray, " time"],
    sample_rate: int,
) -> None:
    """Write ``{original,adversarial,difference}.wav`` and, last, ``picture.png``.

    Args:
      folder: made where it is missing.
      title: of the picture.
      x, x_adv: speech before and after the attack.
      sample_rate: in Hz.
    """
    for kind, samples in (("original", x), ("adversarial", x_adv), ("difference", x_adv - x)):
        write_wav(folder / f"{kind}.wav", samples, sample_rate)
    # Last, and under its name only when whole: who finds the picture finds the speech as well.
    save_figure(perturbation_figure(title, x, x_adv, sample_rate), folder / "picture.png")
