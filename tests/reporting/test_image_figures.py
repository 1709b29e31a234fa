"""Pictures of images: what stands where, and at which height a frequency is written."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.reporting import figures
from jaxser.speech.images import IMAGE_KINDS, SpectrogramImage, image_spectrogram

RATE = 16_000


@pytest.mark.parametrize("kind", ["linear", "mel", "cqt"])
def test_a_tone_is_drawn_at_its_frequency(kind: str) -> None:
    front_end = SpectrogramImage(image_spectrogram(kind))
    tone = 0.5 * np.sin(2 * np.pi * 2_000 * np.arange(RATE) / RATE)
    levels = np.asarray(front_end.levels(jnp.asarray(tone[None], jnp.float32), -60.0, 30.0))[0]
    figure = figures.spectrogram_images_figure("u0", {kind: front_end}, {kind: levels})
    (place,) = figure.axes
    (drawn,) = place.images
    # As the picture is drawn: its first row at the top of its extent.
    assert drawn.origin == "upper"
    bottom, top = drawn.get_extent()[2:]
    rows = np.asarray(drawn.get_array())
    height = top - (rows[:, 112].argmax() + 0.5) * (top - bottom) / len(rows)
    named = dict(
        zip([t.get_text() for t in place.get_yticklabels()], place.get_yticks(), strict=True)
    )
    assert height == pytest.approx(named["2,000"], abs=1.5)


def test_clean_attacked_and_change_of_every_kind(tmp_path: Path) -> None:
    front_ends = {kind: SpectrogramImage(image_spectrogram(kind)) for kind in IMAGE_KINDS}
    clean = {kind: np.full((224, 224, 3), 0.5, np.float32) for kind in IMAGE_KINDS}
    attacked = {kind: image.copy() for kind, image in clean.items()}
    attacked["cqt"][3, 5] += [0.0, -8 / 255, 2 / 255]
    figure = figures.spectrogram_images_figure("u0", front_ends, clean, attacked)
    figures.save_figure(figure, tmp_path / "images.png")
    places = [place for place in figure.axes if place.images]
    assert [place.get_title() for place in places[:4]] == list(IMAGE_KINDS)
    changes = dict(zip(IMAGE_KINDS, places[8:], strict=True))
    shown = np.asarray(changes["cqt"].images[0].get_array())
    assert shown[3, 5] == pytest.approx(8.0, abs=1e-4)
    assert shown.sum() == shown[3, 5]
    assert {place.images[0].get_clim() for place in changes.values()} == {(0.0, shown.max())}
