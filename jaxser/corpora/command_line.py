"""The flags of ``python -m jaxser.corpora``: a subcommand for each thing done to a corpus."""

from pathlib import Path
from typing import Any

from jaxser import corpora
from jaxser.config.parser import CommandParser, command_name

__all__ = ["corpora_parser"]


def corpora_parser() -> CommandParser:
    """The parser; ``command`` of what it returns is list, check, prepare or download."""
    parser = CommandParser(
        prog=command_name("corpora"), description="List, check, prepare and download corpora."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="what corpora there are, or all about one")
    command.add_argument("name", nargs="?", metavar="NAME", help="a corpus")

    command = commands.add_parser("check", help="look for damaged, duplicated and stray files")
    _add_corpus(command, "folder of the corpus")
    _add_workers(command)
    _add_shortest(command)
    command.add_argument("--json", action="store_true", help="print the report as JSON")

    command = commands.add_parser("prepare", help="decode and resample once, into the cache")
    _add_corpus(command, "folder of the corpus")
    waveform = command.add_argument_group("the waveforms")
    waveform.add_argument("--seconds", type=float, default=2.0, help="length (%(default)s)")
    waveform.add_argument("--sample_rate", type=int, default=16_000, help="Hz (%(default)s)")
    waveform.add_argument(
        "--channel", choices=("left", "mean"), default="left", help="of stereo files (%(default)s)"
    )
    waveform.add_argument(
        "--length",
        choices=("repeat", "pad"),
        default="repeat",
        help="repeat short utterances, or pad them with zeros (%(default)s)",
    )
    chunks = command.add_argument_group("the chunks")
    chunks.add_argument(
        "--labels", nargs="+", default=[], metavar="LABEL", help="to keep; all by default"
    )
    chunks.add_argument(
        "--chunks", action="store_true", help="trim silence and cut into chunks of --seconds"
    )
    chunks.add_argument(
        "--augment", action="store_true", help="add four changes of pitch and four of speed"
    )
    chunks.add_argument(
        "--protocol",
        choices=("clean", "paper"),
        help="also say what is in each part by corpus.protocol, and what leaks",
    )
    files = command.add_argument_group("the files")
    _add_shortest(files)
    files.add_argument("--skip_damaged", action="store_true", help="leave damaged files out")
    files.add_argument("--cache_dir", type=Path, help="where ($JAXSER_CACHE, or ~/.cache/jaxser)")
    _add_workers(files)

    command = commands.add_parser("download", help="fetch a corpus that may be fetched freely")
    _add_corpus(
        command, "new or empty folder to put it into; without, where a corpus can be had", "?"
    )
    return parser


def _add_corpus(command: CommandParser, root_help: str, count: str | None = None) -> None:
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(corpora.names())}")
    command.add_argument("root", metavar="ROOT", type=Path, nargs=count, help=root_help)


# A parser or a group of its flags; argparse's class of both has no public name.
def _add_shortest(command: Any) -> None:
    command.add_argument(
        "--shortest", type=float, default=0.1, help="seconds; shorter files are damaged (0.1)"
    )


def _add_workers(command: Any) -> None:
    command.add_argument("--workers", type=int, help="threads (one per core)")
