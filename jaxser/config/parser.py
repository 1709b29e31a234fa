"""The parser of every command: mistakes are one sentence, and flags have a dash or an underscore.

parser = CommandParser(
    prog=command_name("export"),
    usage="%(prog)s FOLDER OUT",
    description="Write a victim for PyTorch.",
)
parser.add_argument("--dry_run", action="store_true")     # --dry-run is the same flag
args = parser.parse_args(argv)
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from jaxser.config.ranges import INTERVAL_OVER, LARGEST_SEED, IntervalOver
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.version import __version__

__all__ = [
    "CommandParser",
    "add_interval_over",
    "add_process_flags",
    "check_folder",
    "command_name",
    "seed_of",
]


def command_name(command: str) -> str:
    """``command`` as it was typed: after "jaxser", "python -m jaxser" or "python -m jaxser."."""
    program = Path(sys.argv[0])
    if program.stem == "jaxser":
        return f"jaxser {command}"
    if program.parts[-2:] == ("jaxser", "__main__.py"):
        return f"python -m jaxser {command}"
    return f"python -m jaxser.{command}"


def check_folder(out: Path | None) -> None:
    """Refuse a file where ``--out`` is to be a folder, before anything is run for it."""
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give --out a folder.")


def seed_of(text: str) -> int:
    """The number that a flag gives as a seed; argparse tells what else it is."""
    seed = int(text)
    if not 0 <= seed <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LARGEST_SEED:,}")
    return seed


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """The flags by which processes that were started on several hosts find each other."""
    several = parser.add_argument_group("several processes")
    several.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where process 0 of several listens, or auto, which lets JAX detect the processes "
        "(it does so by itself under SLURM, Open MPI, Kubernetes and on GKE's TPU pods)",
    )
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process", type=int, metavar="I", help="which this one is, from 0")


def add_interval_over(parser: "argparse._ArgumentGroup") -> None:
    """The flag that every command has which prints intervals."""
    parser.add_argument(
        "--interval_over",
        choices=get_args(IntervalOver),
        default="utterance",
        help=f"{INTERVAL_OVER.description} (utterance)",
    )


class CommandParser(argparse.ArgumentParser):
    """argparse with complaints of one sentence, and without abbreviations of flags.

    Flags are declared with underscores; --version is one of every command. Parsers of subcommands
    are of this class as well.

    Raises:
      UsageError: from ``parse_args``: a flag that is unknown, or a value that is wrong or missing.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        version = f"jaxser {__version__}"
        self.add_argument(
            "--version", action="version", version=version, help="say which jaxser this is and exit"
        )

    def error(self, message: str) -> NoReturn:
        """Raise the complaint: what argparse does is print its usage and leave."""
        raise UsageError(f"{message}; see {self.prog} --help.")

    # argparse parses a subcommand's flags by this method of the subcommand's parser, so that it
    # must be the one that refuses what it does not know: parse_args sees the top parser's alone.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Namespace and an empty list: whatever is unknown is refused."""
        spelled = _underscored(sys.argv[1:] if args is None else args)
        # First, as argparse would rather complain of the required flag that was mistyped.
        if self._subparsers is None:
            for argument in _flags(spelled):
                if argument not in self._option_string_actions:
                    self._refuse(argument)
        given, unknown = super().parse_known_args(spelled, namespace)
        for argument in unknown:
            if argument.startswith("-") and argument != "--":
                self._refuse(argument.partition("=")[0])
            raise UsageError(f"unexpected argument {argument!r}; see {self.prog} --help.")
        return given, []

    def _refuse(self, flag: str) -> NoReturn:
        name = flag.lstrip("-")
        known = [each for each in self._option_string_actions if each.startswith("--")]
        raise UsageError(f"unknown flag --{name}: {nearest_name(f'--{name}', known)}")


def _underscored(argv: Sequence[str]) -> list[str]:
    """Flags as they are declared: people type --training.batch-size as well."""
    end = _end_of_flags(argv)
    spelled = []
    for argument in argv[:end]:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            argument = "--" + flag[2:].replace("-", "_") + equals + value
        spelled.append(argument)
    return [*spelled, *argv[end:]]


def _flags(argv: Sequence[str]) -> list[str]:
    """The long flags among arguments; what holds a blank is a value to argparse."""
    flags = (each.partition("=")[0] for each in argv[: _end_of_flags(argv)])
    return [flag for flag in flags if flag.startswith("--") and " " not in flag]


def _end_of_flags(argv: Sequence[str]) -> int:
    """The place of "--", after which nothing is a flag."""
    return argv.index("--") if "--" in argv else len(argv)
