"""The corpora from the command line.

    python -m jaxser.corpora list [NAME]
    python -m jaxser.corpora check NAME ROOT [--json]
    python -m jaxser.corpora prepare NAME ROOT [--seconds 2] [--skip_damaged]
    python -m jaxser.corpora download NAME ROOT

Exit status: 0; 1 if something is wrong with the corpus; 2 if the command line is.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxser import corpora
from jaxser.config.parser import CommandParser, command_name
from jaxser.corpora.listing import corpora_table, description
from jaxser.runtime.errors import report_errors

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        status = report_errors(lambda: _run(arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader ("| head") has seen enough; what Python flushes at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("corpora"), description="List, check, prepare and download corpora."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="what corpora there are, or all about one")
    command.add_argument("name", nargs="?", metavar="NAME", help="a corpus")
    command.set_defaults(run=_list)

    command = commands.add_parser("check", help="look for damaged, duplicated and stray files")
    _add_corpus(command, "folder of the corpus")
    _add_workers(command)
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=_check)

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
    files = command.add_argument_group("the files")
    files.add_argument("--skip_damaged", action="store_true", help="leave damaged files out")
    files.add_argument("--cache_dir", type=Path, help="where ($JAXSER_CACHE, or ~/.cache/jaxser)")
    _add_workers(files)
    command.set_defaults(run=_prepare)

    command = commands.add_parser("download", help="fetch a corpus that may be fetched freely")
    _add_corpus(command, "new or empty folder to put it into")
    command.set_defaults(run=_download)
    return parser


def _add_corpus(command: argparse.ArgumentParser, root_help: str) -> None:
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(corpora.names())}")
    command.add_argument("root", metavar="ROOT", type=Path, help=root_help)


# A parser or a group of its flags; argparse's class of both has no public name.
def _add_workers(command: Any) -> None:
    command.add_argument("--workers", type=int, help="threads (one per core)")


def _list(options: argparse.Namespace) -> int:
    print(corpora_table() if options.name is None else description(options.name))
    return 0


def _check(options: argparse.Namespace) -> int:
    from jaxser.corpora.checking import check, report_text

    report = check(options.name, options.root, workers=options.workers)
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(report_text(report))
    return int(report["status"])


def _prepare(options: argparse.Namespace) -> int:
    settings = corpora.AudioSettings(
        sample_rate=options.sample_rate,
        seconds=options.seconds,
        channel=options.channel,
        length=options.length,
    )
    prepared = corpora.prepare(
        corpora.load(options.name, options.root),
        settings,
        cache_dir=options.cache_dir,
        skip_damaged=options.skip_damaged,
        workers=options.workers,
    )
    rows, samples = prepared.waveforms.shape
    print(f"{prepared.corpus.title}: {rows:,} utterances of {samples:,} samples")
    for note in prepared.corpus.notes:
        print(f"note: {note}")
    for name, reason in prepared.skipped:
        print(f"left out: {name}: {reason}")
    print(f"fingerprint: {prepared.fingerprint}")
    print(f"folder: {prepared.folder}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from jaxser.corpora.downloading import download

    print(download(corpora.get_spec(options.name), options.root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
