"""What agrees in something, together: lines of a table, victims of a corpus.

by_corpus = grouped(evaluations, lambda each: each.corpus.name)
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["first_of_each", "grouped"]

Item = TypeVar("Item")
Key = TypeVar("Key")


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by what ``key`` says of them, in the order in which they come.

    Unlike :func:`itertools.groupby` it needs no sorted items, whose order is that of the page.
    """
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def first_of_each(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, Item]:
    """The first item of every group of :func:`grouped`."""
    return {name: group[0] for name, group in grouped(items, key).items()}
