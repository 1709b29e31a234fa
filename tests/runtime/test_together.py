"""What processes that train together hold in common."""

import itertools

import numpy as np
import pytest

from jaxser.runtime import together


def test_figures_are_those_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert together.as_first({"val_loss": 0.7}) == {"val_loss": 0.7}
    told: dict[str, str] = {}
    monkeypatch.setattr(together, "are_several", lambda: True)
    monkeypatch.setattr(together, "told_to_others", told.__setitem__)
    monkeypatch.setattr(together, "told_by_first", lambda key, seconds: told[key])
    found = []
    for first, loss in ((True, np.float32(0.1)), (False, 0.2)):
        monkeypatch.setattr(together, "is_first", lambda first=first: first)
        monkeypatch.setattr(together, "_NUMBERS", itertools.count())
        found.append(together.as_first({"epoch": 3, "val_loss": loss}))
    assert found == [{"epoch": 3, "val_loss": float(np.float32(0.1))}] * 2
