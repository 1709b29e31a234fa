"""All commands behind one name: ``jaxser COMMAND ...`` or ``python -m jaxser COMMAND ...``.

    jaxser train --out runs/demo
    jaxser attack --help

Each is the same as ``python -m jaxser.COMMAND``. Exit status: that of the command; 2 where there is
no such command.
"""

import importlib
import sys
from collections.abc import Sequence

from jaxser.runtime.errors import UsageError, nearest_name, report_errors
from jaxser.runtime.version import __version__

__all__ = ["COMMANDS", "main", "run"]

# In the order in which they are used.
COMMANDS = {
    "corpora": "list, check, prepare and download corpora",
    "train": "train a victim, or a generator of adversarial speech against victims",
    "tune": "search the hyper-parameters of a victim",
    "attacks": "list the attacks, or tell all of one: parameters, norms, paper",
    "attack": "attack a victim on its held-out speech and say how robust it is",
    "listen": "hear the weakest attack on one recording that changes what a victim takes it for",
    "sweep": "attack victims at many epsilon: victims x attacks x epsilon x corpora x seeds",
    "report": "make one page, and tables, from the rows of attacks and sweeps",
    "evaluate": "run a paper's grid of attacks beside what the paper printed",
    "certify": "certify the L2 radius in which a smoothed victim's answers stay",
    "explain": "show what a victim's last layer makes of speech, clean and attacked",
    "transfer": "score what was made against one victim on others",
    "export": "write a victim as a folder that transformers loads",
}


# Commands whose name is that of a folder.
_ROOMS = ("attacks", "corpora")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    Args:
      argv: the command and its arguments; ``sys.argv[1:]`` by default.

    Raises:
      UsageError: there is no such command; and whatever the command raises.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"jaxser {__version__}")
        return 0
    if name.startswith("-"):
        known = nearest_name(name, ("--help", "--version"))
        raise UsageError(f"unknown flag {name}: {known}")
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}; {nearest_name(name, COMMANDS)}")
    module = importlib.import_module(f"jaxser.{name}" + (".__main__" if name in _ROOMS else ""))
    status: int = module.main(rest)
    return status


def run() -> int:
    """What the installed script calls: :func:`main`, with errors as one line."""
    return report_errors(main)


def _help() -> str:
    lines = [f"  {name:10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: jaxser COMMAND ...",
            "",
            "Train speech emotion recognition victims, attack them, report their robustness.",
            "",
            "commands:",
            *lines,
            "",
            "jaxser COMMAND --help tells all of a command; jaxser --version which jaxser this is.",
        ]
    )


if __name__ == "__main__":
    sys.exit(run())
