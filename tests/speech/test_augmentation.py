"""Augmentation of images: what is stretched, where masks lie, and whose randomness it is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.attacks.base import row_keys
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.augmentation import ImageAugmentation

ROWS, COLUMNS, WIDEST = 12, 20, 4
MASKS = {"time_width": WIDEST, "frequency_width": 3}
BLUE = np.float32([0, 0, 0.5])


def keys(count: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), jnp.arange(count, dtype=jnp.uint32))


def images(count: int, channels: int = 3) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(0.2, 1, (count, ROWS, COLUMNS, channels)), jnp.float32)


def test_masks_are_bands_of_the_first_colour_of_all_widths_and_places() -> None:
    augment = ImageAugmentation(stretched_share=0.0, time_masks=1, **MASKS)
    x = images(2_000)
    found = np.asarray(jax.jit(augment)(keys(len(x)), x))
    masked = (found == BLUE).all(axis=3)
    np.testing.assert_array_equal(found[~masked], np.asarray(x)[~masked])
    columns, rows = masked.all(axis=1), masked.all(axis=2)
    np.testing.assert_array_equal(masked, columns[:, None] | rows[:, :, None])
    for lines, widest, size in ((columns, WIDEST, COLUMNS), (rows, 3, ROWS)):
        widths = lines.sum(axis=1)
        shares = np.bincount(widths) / len(x)
        np.testing.assert_allclose(shares, 1 / (widest + 1), atol=0.035)
        # One band: it starts once.
        starts = np.diff(lines.astype(int), axis=1, prepend=0) == 1
        np.testing.assert_array_equal(starts.sum(axis=1), widths > 0)
        # All places of a widest mask, up to both edges, are as likely.
        places = starts[widths == widest].sum(axis=0)[: size - widest + 1]
        expected = (widths == widest).sum() / (size - widest + 1)
        assert np.abs(places - expected).max() < 4 * np.sqrt(expected)


def test_two_time_masks_by_default() -> None:
    augment = ImageAugmentation(stretched_share=0.0, frequency_masks=0, **MASKS)
    found = np.asarray(jax.jit(augment)(keys(300), images(300, channels=1)))
    columns = (found == 0).all(axis=(1, 3)).sum(axis=1)
    assert columns.max() == 2 * WIDEST


@pytest.mark.parametrize("channels", [1, 3])
def test_a_stretched_image_is_narrower_and_silence_follows(channels: int) -> None:
    x = images(40, channels)
    augment = ImageAugmentation(time_masks=0, frequency_masks=0, **MASKS)
    found = np.asarray(jax.jit(augment)(keys(40), x))
    stretched = (found != x).any(axis=(1, 2, 3))
    assert 10 < stretched.sum() < 30
    width = round(0.9 * COLUMNS)
    shape = (40, ROWS, width, channels)
    narrow = np.asarray(jax.image.resize(x, shape, "bilinear", antialias=True))
    np.testing.assert_allclose(found[stretched][:, :, :width], narrow[stretched], atol=1e-5)
    silence = found[stretched][:, :, width:]
    np.testing.assert_array_equal(
        silence, np.broadcast_to(BLUE if channels == 3 else np.float32(0), silence.shape)
    )


def test_a_row_depends_on_its_own_key_alone() -> None:
    augment = jax.jit(ImageAugmentation(**MASKS))
    x = images(6)
    found = augment(keys(6), x)
    turned = augment(keys(6)[::-1], x[::-1])
    np.testing.assert_array_equal(turned[::-1], found)
    assert (np.asarray(augment(keys(6, seed=1), x)) != found).any()


@pytest.mark.parametrize(
    ("settings", "shape", "sentence"),
    [
        ({"stretch": 0.0}, None, "stretch must be above 0 and at most 1, not 0"),
        ({"stretched_share": 1.5}, None, "stretched_share must be from 0 to 1, not 1.5"),
        ({"time_masks": -1}, None, "time_masks must not be negative, but is -1"),
        ({}, (1, 224, 224, 4), "1 or 3 channels, not 4"),
        ({}, (1, 224, 15, 3), "masks of up to 16 rows and 16 columns do not fit"),
    ],
)
def test_impossible_augmentation_is_refused(
    settings: dict[str, Any], shape: tuple[int, ...] | None, sentence: str
) -> None:
    with pytest.raises(UsageError if shape is None else InputError, match=sentence):
        ImageAugmentation(**settings)(keys(1), jnp.zeros(shape or (1, 224, 224, 3)))
