"""Attributions of many rows in batches: complete, alike in every batch, refused with a sentence."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small_victims import linear_weights, small_victim, waveforms

from jaxser.driver import attributions as driver
from jaxser.driver.attributions import attributions, has_feature_map
from jaxser.runtime.errors import UsageError
from jaxser.victims.feature_maps import FeatureMap


class Unmarked(nn.Module):
    """A network of spectrograms that nobody has told of feature maps."""

    def __call__(self, x, train):
        del train
        return x.sum(axis=1)


CLASSES = np.array([0, 4, 2, 1, 3])


def test_a_linear_victim_is_explained_by_its_weights():
    victim, x, kernel = small_victim("linear"), waveforms(5), linear_weights()["kernel"]
    baseline = np.full_like(x, 0.1)
    found = attributions(
        victim, x, CLASSES, ("saliency", "integrated"), baseline=baseline, steps=1, batch_size=2
    )
    np.testing.assert_array_equal(found.maps["saliency"], np.abs(kernel.T[CLASSES]))
    by_hand = kernel.T[CLASSES] * (x - baseline)
    np.testing.assert_allclose(found.maps["integrated"], by_hand, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.sums, by_hand.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.differences, by_hand.sum(axis=1), rtol=1e-4)


def test_enough_steps_make_attributions_complete_and_too_few_are_seen():
    victim, x = small_victim("conv"), waveforms(5)
    baseline = np.zeros_like(x)
    lacking = []
    for steps in (1, 16):
        found = attributions(victim, x, CLASSES, ("integrated",), baseline=baseline, steps=steps)
        lacking.append(np.abs(found.sums - found.differences) / np.abs(found.differences))
    assert lacking[1].max() < 1e-3 < lacking[0].max()


def test_rows_are_alike_in_every_batch_and_a_smaller_one_is_taken_where_memory_ends(monkeypatch):
    victim, x = small_victim("conv"), waveforms(5)
    whole = attributions(victim, x, CLASSES, ("saliency",), batch_size=8).maps["saliency"]
    alone = attributions(victim, x[3:4], CLASSES[3:4], ("saliency",), batch_size=8)
    np.testing.assert_array_equal(alone.maps["saliency"][0], whole[3])
    sizes, in_batches = [], driver._in_batches

    def without_memory(*arguments):
        sizes.append(arguments[-1])
        if arguments[-1] > 2:
            raise MemoryError("none")
        return in_batches(*arguments)

    monkeypatch.setattr(driver, "_in_batches", without_memory)
    done: list[int] = []
    found = attributions(victim, x, CLASSES, ("saliency",), batch_size=8, watch=done.append)
    few = found.maps["saliency"]
    assert sizes == [8, 4, 2]
    assert done == [2, 4, 5]
    np.testing.assert_allclose(few, whole, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_explained_is_one_sentence():
    victim, x = small_victim("linear"), waveforms(5)
    assert not has_feature_map(victim)
    with pytest.raises(UsageError, match=r"Grad-CAM.. looks at .* linear reads waveforms; use sal"):
        attributions(victim, x, CLASSES, ("gradcam",))
    unmarked = FeatureMap(Unmarked(), (8, 8), (8, 8))
    blind = dataclasses.replace(
        victim, variables={}, input_shape=(8, 8), feature_map=unmarked, name="blind"
    )
    with pytest.raises(UsageError, match="blind marks no feature map; use saliency or integrated"):
        attributions(blind, np.zeros((1, 8, 8), np.float32), CLASSES[:1], ("gradcam",))
    with pytest.raises(UsageError, match="no explanation 'gradcan'; did you mean 'gradcam'"):
        attributions(victim, x, CLASSES, ("gradcan",))
    with pytest.raises(UsageError, match="need a baseline"):
        attributions(victim, x, CLASSES, ("integrated",))
    noisy = dataclasses.replace(victim, randomised=True, apply=lambda v, x, keys: jnp.zeros(1))
    with pytest.raises(UsageError, match="linear is randomised"):
        attributions(noisy, x, CLASSES, ("saliency",))
