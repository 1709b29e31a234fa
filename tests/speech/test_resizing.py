"""Bilinear resizing against jax.image.resize and, by a golden file, PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.speech.resizing import resize_matrix

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "resizing.npz"


@pytest.mark.parametrize(("before", "after"), [(229, 224), (225, 224), (50, 20), (5, 8), (7, 7)])
def test_jax_resizes_the_same(before: int, after: int) -> None:
    with jax.enable_x64():
        x = jnp.asarray(np.random.default_rng(0).normal(size=(before, 3)))
        expected = jax.image.resize(x, (after, 3), "bilinear", antialias=True)
    np.testing.assert_allclose(resize_matrix(before, after) @ np.asarray(x), expected, atol=1e-10)


def test_torch_resizes_the_same() -> None:
    with np.load(GOLDEN) as golden:
        for before, after in ((229, 224), (50, 20), (5, 8)):
            expected = golden[f"resize_{before}_{after}"]
            found = resize_matrix(before, after) @ golden[f"resize_{before}"]
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_matrix_is_made_once_and_cannot_be_written_to() -> None:
    matrix = resize_matrix(9, 4)
    assert resize_matrix(9, 4) is matrix
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 2.0
