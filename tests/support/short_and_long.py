"""Parameters of which the short suite tries a few and the long one the others."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def short_and_long(cases: Iterable[Any], short: Collection[Any]) -> list[Any]:
    """All of ``cases`` for ``parametrize``, those that are not in ``short`` marked long.

    Tuples are values of several parameters.
    """
    cases = list(cases)
    assert all(case in cases for case in short)
    marked = [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
        for case in cases
    ]
    return [case if case in short else long for case, long in zip(cases, marked, strict=True)]
