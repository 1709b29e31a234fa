"""Batch statistics, of an array and of a convolution that is not computed."""

import pytest
from textbook import assert_same_derivatives, normal, textbook_conv

from jaxser.models.layers.batch_norm import conv_moments, moments


@pytest.mark.usefixtures("double")
def test_moments_are_mean_and_variance():
    assert_same_derivatives(
        moments,
        lambda y: (y.mean(axis=(0, 1)), y.var(axis=(0, 1))),
        2 + normal(0, 3, 20, 4),
    )


@pytest.mark.usefixtures("double")
def test_conv_moments_are_those_of_the_convolution():
    def textbook(x, kernel):
        y = textbook_conv(x[..., None], kernel[:, None], 3)
        return y.mean(axis=(0, 1)), y.var(axis=(0, 1))

    assert_same_derivatives(
        lambda x, kernel: conv_moments(x, kernel, 3),
        textbook,
        1 + normal(0, 2, 57),
        normal(1, 8, 5),
    )
