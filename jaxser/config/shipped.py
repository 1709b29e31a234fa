"""Config files that come with jaxser, wherever it is installed and wherever a command is run.

shipped(Path("configs/emo18_emodb.yaml"))      # here, or else the one that jaxser came with
"""

from pathlib import Path

__all__ = ["shipped"]

_PACKAGE = Path(__file__).resolve().parents[1]

# Of a wheel, and of a checkout.
_HOMES = (_PACKAGE, _PACKAGE.parent)


def shipped(path: Path) -> Path:
    """``path``, or the file of this name that jaxser comes with.

    Args:
      path: of a config file. Only a relative one that begins with ``configs/`` and that is not
        there is looked for elsewhere.
    """
    if path.parts[:1] != ("configs",) or ".." in path.parts or path.exists():
        return path
    return next((home / path for home in _HOMES if (home / path).is_file()), path)
