"""Sphinx's roles in docstrings as links of the manual: ``:func:`jaxser.load_victim```.

An extension of griffe, which mkdocstrings reads docstrings with (``mkdocs.yml`` names it). What has
a place on the page of public names becomes a link to it, all else the name as code.
"""

import re
from typing import Any

import griffe
from docs_pages import places

_ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites docstrings as they are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of every module, class and function."""
        if obj.docstring is not None:
            module = "jaxser" if obj.module is None else obj.module.path
            obj.docstring.value = with_links(obj.docstring.value, module, places())


def with_links(text: str, module: str, known: dict[str, str]) -> str:
    """``text`` with links in place of roles.

    Args:
      text: of a docstring.
      module: where it stands, which a bare name is of.
      known: names that have a place, and where they are defined.
    """

    def link(role: re.Match[str]) -> str:
        name = role[1]
        shown = f"`{name.rpartition('.')[2]}`"
        place = known.get(name) or known.get(f"{module}.{name}")
        return shown if place is None else f"[{shown}][{place}]"

    return _ROLE.sub(link, text)
