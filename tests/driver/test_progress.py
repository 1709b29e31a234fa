"""The bar of an attack counts as its table does."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxser.driver.progress import AttackBar


def block(prediction: list[int], success: list[bool]) -> Any:
    @dataclasses.dataclass
    class Block:
        prediction: np.ndarray
        success: np.ndarray
        throughput: Any

        def __len__(self) -> int:
            return len(self.prediction)

    rate = SimpleNamespace(rows_per_second=2.0)
    return Block(np.array(prediction), np.array(success), rate)


def test_it_shows_robust_accuracy_and_the_share_fooled(capsys: pytest.CaptureFixture[str]) -> None:
    """Eight rows: six are wrong before and stay so, which is no success of the attack."""
    labels, clean = np.array([0, 0, 1, 1, 2, 2, 0, 1]), np.array([1, 1, 0, 0, 0, 0, 0, 1])
    after = [1, 1, 0, 0, 0, 0, 2, 1]
    success = [each != label for each, label in zip(after, labels, strict=True)]
    with AttackBar("sparsepgd", rows=8) as bar:
        for part in (slice(0, 3), slice(3, 8)):
            bar.add(block(after[part], success[part]), labels[part], clean[part])
    shown = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    # One of eight is right after; one of eight changed.
    assert "robust accuracy 12.5%, fooled 12.5%" in shown
    assert "success" not in shown


def test_logits_that_are_not_finite_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with AttackBar("noise", rows=2) as bar:
        bar.add(block([-1, -1], [False, False]), np.array([0, 1]), np.array([0, -1]))
    assert "robust accuracy 0.0%, fooled 50.0%" in capsys.readouterr().err
