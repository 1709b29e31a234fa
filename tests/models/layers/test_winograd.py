"""Winograd's convolutions against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser import models
from jaxser.models.layers.winograd import is_faster, winograd_conv, winograd_kernel


def plain(x: np.ndarray, kernel: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    x = np.pad(x.astype(np.float64), ((0, 0), padding, (0, 0)))
    steps = x.shape[1] - len(kernel) + 1
    return sum(
        x[:, tap : tap + steps] @ kernel[tap].astype(np.float64) for tap in range(len(kernel))
    )


def winograd(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    return winograd_conv(x, winograd_kernel(kernel), len(kernel), padding)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(
    ("time", "padding"), [(5, (0, 0)), (37, (2, 2)), (40, (0, 1)), (64, (0, 0)), (66, (0, 0))]
)
def test_equal_to_sums_of_products(size: int, time: int, padding: tuple[int, int]) -> None:
    rng = np.random.default_rng(time)
    x = rng.normal(size=(2, time, 6)).astype(np.float32)
    kernel = rng.normal(size=(size, 6, 4)).astype(np.float32)
    expected = plain(x, kernel, padding)
    found = jax.jit(winograd, static_argnums=2)(x, kernel, padding)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_gradients_are_those_of_a_plain_convolution() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 21, 3)), rng.normal(size=(5, 3, 4))
    with jax.enable_x64():
        inputs = jnp.asarray(x), jnp.asarray(kernel)
        y, pull_back = jax.vjp(lambda x, kernel: winograd(x, kernel, (2, 2)), *inputs)
        weights = rng.normal(size=y.shape)
        by_x, by_kernel = pull_back(jnp.asarray(weights))
    for found, moved in ((by_x, x), (by_kernel, kernel)):
        for place in rng.choice(moved.size, 8, replace=False):
            step = np.zeros(moved.size)
            step[place] = 1.0
            step = step.reshape(moved.shape)
            # Linear in each, so one step is exact.
            change = plain(step, kernel, (2, 2)) if moved is x else plain(x, step, (2, 2))
            assert np.asarray(found).ravel()[place] == pytest.approx((weights * change).sum())


@pytest.mark.long
def test_the_generator_uses_it_where_it_is_faster() -> None:
    assert is_faster(jnp.zeros((5, 64, 128)))
    assert not is_faster(jnp.zeros((5, 32, 64)))  # the combinations take longer
    assert not is_faster(jnp.zeros((5, 128, 256), jnp.bfloat16))
    assert not is_faster(jnp.zeros((7, 128, 256)))  # not measured
    model = models.build("waveunet", num_samples=256, widths=(64, 128), padding="same")
    x = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, (2, 256)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    with jax.enable_x64():
        wide = model.clone(dtype=jnp.float64, param_dtype=jnp.float64)
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        expected = wide.apply(double, jnp.asarray(x, jnp.float64))
    for found, exact in zip(model.apply(variables, x), expected, strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-4)
