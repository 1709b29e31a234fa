"""What every reader owes for a file that is not what it should be: its value, or a sentence."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import settings

from jaxser.runtime.errors import InputError

Value = TypeVar("Value")

# The same examples in every run; what once failed stays as an @example.
SEARCH = settings(max_examples=30, derandomize=True, database=None, deadline=None)


def value_or_sentence(read: Callable[[], Value]) -> Value | str:
    """What ``read`` returns, or the one short sentence of its InputError; all else is raised."""
    try:
        return read()
    except InputError as error:
        told = str(error)
        assert told, "an error without a word"
        assert "\n" not in told, told[:500]
        assert len(told) < 600, told[:600]
        return told
