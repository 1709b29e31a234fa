"""The colour map against matplotlib's, its slopes, and the way back from colours."""

import functools

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from jaxser.speech.colours import dead_share, jet, jet_table, nearest_level

# Beside the edges of the table's entries, at the corners of the lines, and outside.
LEVELS = np.concatenate(
    [np.arange(-8, 2 * 257 + 8) / 512, np.linspace(-0.1, 1.1, 1_001), [0.11, 0.125, 0.35, 0.91]]
).astype(np.float32)


def test_the_table_is_matplotlibs() -> None:
    expected = matplotlib.colormaps["jet"](LEVELS)[:, :3]
    np.testing.assert_array_equal(np.asarray(jet(jnp.asarray(LEVELS))), np.float32(expected))
    own = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    np.testing.assert_allclose(jet_table(), own, rtol=0, atol=1e-15)


def test_the_continuous_form_passes_through_the_table_and_stays_near_it() -> None:
    entries = jet(jnp.arange(256) / 255, "continuous")
    np.testing.assert_allclose(entries, jet_table(), atol=1e-6)
    apart = np.abs(jet(jnp.asarray(LEVELS)) - jet(jnp.asarray(LEVELS), "continuous"))
    # Half an entry at the steepest slope, 1 / 0.23, and what k/255 and k/256 are apart.
    assert 0.015 < apart.max() < 0.0178


@pytest.mark.parametrize("colour_map", ["table", "continuous"])
def test_the_slopes_are_those_of_the_continuous_form(colour_map: str) -> None:
    with jax.enable_x64():
        x = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.2, 500))
        drawn = functools.partial(jet, colour_map=colour_map)
        _, found = jax.jit(lambda x: jax.jvp(drawn, (x,), (jnp.ones_like(x),)))(x)
        step = 1e-7
        drawn_on = jax.jit(functools.partial(jet, colour_map="continuous"))
        rise = drawn_on(x + step) - drawn_on(x - step)
        np.testing.assert_allclose(found, rise / (2 * step), atol=1e-6)
        # An attack on levels that starts at an end of the range must be able to leave it.
        ends = jax.jit(jax.jacobian(drawn))(jnp.asarray([0.0, 1.0]))
        np.testing.assert_allclose(ends[0, :, 0], [0, 0, 0.5 / 0.11])
        np.testing.assert_allclose(ends[1, :, 1], [-0.5 / 0.11, 0, 0])
        pulled = jax.jit(jax.grad(lambda x: drawn(x).sum()))(x)
        np.testing.assert_allclose(pulled, found.sum(axis=1), atol=1e-12)


def test_the_share_of_dead_cells_of_each_row() -> None:
    dead, alive = [0.111, 0.12, -1e-6, 1.000001], [0.0, 0.1099, 0.1251, 0.5, 0.65, 0.9, 1.0]
    rows = jnp.asarray([dead, alive[:4], alive[3:], dead[:2] + alive[:2]])
    np.testing.assert_allclose(dead_share(rows[:, :, None]), [1, 0, 0, 0.5])
    assert jax.grad(lambda x: (jet(x) ** 2).sum())(rows[0]).tolist() == [0, 0, 0, 0]


def test_what_is_no_number_has_no_colour() -> None:
    for colour_map in ("table", "continuous"):
        assert np.isnan(jet(jnp.asarray([jnp.nan]), colour_map)).all()


@pytest.mark.parametrize("colour_map", ["table", "continuous"])
def test_the_nearest_level_is_that_of_all_colours_tried(colour_map: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (2, 20, 10))
    image = np.asarray(jet(jnp.asarray(x, jnp.float32), colour_map), np.float64)
    image[1] += rng.uniform(-0.3, 0.3, image[1].shape)
    level, distance = nearest_level(jnp.asarray(image, jnp.float32), colour_map)
    assert level.shape == distance.shape == x.shape
    colours = jet_table()
    if colour_map == "continuous":
        fine = jnp.linspace(0, 1, 4_001, dtype=jnp.float32)
        colours = np.asarray(jet(fine, "continuous"))
    apart = np.sqrt(np.square(image[..., None, :] - colours).sum(axis=-1)).min(axis=-1)
    # Where several colours are as near, any of them has the distance: that is what is compared.
    np.testing.assert_allclose(distance, apart, atol=1e-6 if colour_map == "table" else 1e-3)
    back = jet(level, colour_map)
    np.testing.assert_allclose(np.linalg.norm(back - image, axis=-1), distance, atol=1e-6)
    # A picture of levels is its own nearest, and gives them back.
    np.testing.assert_allclose(distance[0], 0, atol=1e-6)
    blue = (x[0] > 0.105) & (x[0] < 0.13)
    np.testing.assert_allclose(level[0][~blue], x[0][~blue], atol=0.00196)
    np.testing.assert_allclose(level[0][blue], x[0][blue], atol=0.0125)
