"""The face of a folder: names that are imported from its files on first use (PEP 562).

    __getattr__, __dir__ = face(__name__, {"read_rows": "reading"})

So ``--help`` and small files of the folder need not wait for what the others import. Beside it the
names are imported under ``TYPE_CHECKING``, for type checkers and editors.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["face"]


def face(
    package: str, defined_in: Mapping[str, str], submodules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Args:
      package: its ``__name__``.
      defined_in: name -> file of the package that defines it, dotted where that lies deeper.
      submodules: files or folders that can be had as attributes too.
    """

    def get(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name in defined_in:
            return getattr(importlib.import_module(f"{package}.{defined_in[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *defined_in, *submodules})

    return get, names
