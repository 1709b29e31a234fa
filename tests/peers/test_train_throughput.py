"""The benchmark's two sides do the same work: training steps with equal losses."""

import numpy as np
import pytest

from benchmarks.train_throughput import Setting, compare
from jaxser.runtime.errors import UsageError

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", ["emo18", "zhao19", "cnn_lstm"])
def test_both_sides_train_alike(name):
    (comparison,) = compare(name, Setting(batch=4, seconds=0.5), ["train"], pairs=2, steps=2)
    losses = comparison.losses
    assert len(losses["jax"]) == len(losses["torch"]) == 8
    np.testing.assert_allclose(losses["jax"], losses["torch"], atol=5e-3)
    assert losses["jax"][-1] < losses["jax"][0] - 0.2  # it does learn
    assert len(comparison.ratios) == 2


def test_a_setting_is_parsed_or_refused():
    assert Setting.parse("32x2") == Setting(32, 2.0)
    with pytest.raises(UsageError, match="8x6"):
        Setting.parse("32")
