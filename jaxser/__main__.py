"""All commands behind one name: ``jaxser COMMAND ...`` or ``python -m jaxser COMMAND ...``."""

import importlib
import sys
from collections.abc import Sequence

from jaxser.runtime.errors import UsageError, nearest_name, report_errors
from jaxser.runtime.version import __version__

_COMMANDS = {
    "train": "train a victim, or a generator of adversarial speech against victims",
    "attack": "attack a victim on its held-out speech and say how robust it is",
    "sweep": "attack victims at many epsilon: victims x attacks x epsilon x corpora x seeds",
    "report": "make one page, and tables, from the rows of attacks and sweeps",
    "evaluate": "run a paper's grid of attacks beside what the paper printed",
    "transfer": "score what was made against one victim on others",
    "tune": "search the hyper-parameters of a victim",
    "export": "write a victim as a folder that transformers loads",
    "corpora": "list, check, prepare and download corpora",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"jaxser {__version__}")
        return 0
    if name not in _COMMANDS:
        raise UsageError(f"there is no command {name!r}; {nearest_name(name, _COMMANDS)}")
    module = importlib.import_module(f"jaxser.{name}" + (".__main__" if name == "corpora" else ""))
    status: int = module.main(rest)
    return status


def _help() -> str:
    lines = [f"  {name:10} {text}" for name, text in _COMMANDS.items()]
    return "\n".join(["usage: jaxser COMMAND ...", "", *lines])


if __name__ == "__main__":
    sys.exit(report_errors(main))
