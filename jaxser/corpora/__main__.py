"""The corpora from the command line.

    python -m jaxser.corpora list [NAME]
    python -m jaxser.corpora check NAME ROOT [--json]
    python -m jaxser.corpora prepare NAME ROOT [--seconds 2] [--skip-damaged]
    python -m jaxser.corpora download NAME ROOT

Exit status: 0; 1 if something is wrong with the corpus; 2 if the command line is.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxser import corpora
from jaxser.runtime.errors import report_errors

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = report_errors(lambda: options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader ("| head") has seen enough; what Python flushes at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.corpora", description="List, check, prepare and download corpora."
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
    _add_workers(command)
    command.add_argument("--sample-rate", type=int, default=16_000, help="Hz (%(default)s)")
    command.add_argument("--seconds", type=float, default=2.0, help="length (%(default)s)")
    command.add_argument(
        "--channel", choices=("left", "mean"), default="left", help="of stereo files (%(default)s)"
    )
    command.add_argument(
        "--length",
        choices=("repeat", "pad"),
        default="repeat",
        help="repeat short utterances, or pad them with zeros (%(default)s)",
    )
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged files out")
    command.add_argument("--cache-dir", type=Path, help="where ($JAXSER_CACHE, or ~/.cache/jaxser)")
    command.set_defaults(run=_prepare)

    command = commands.add_parser("download", help="fetch a corpus that may be fetched freely")
    _add_corpus(command, "new or empty folder to put it into")
    command.set_defaults(run=_download)
    return parser


def _add_corpus(command: argparse.ArgumentParser, root_help: str) -> None:
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(corpora.names())}")
    command.add_argument("root", metavar="ROOT", type=Path, help=root_help)


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="threads (one per core)")


def _list(options: argparse.Namespace) -> int:
    if options.name is not None:
        print(_describe(options.name))
        return 0
    rows = [("NAME", "TITLE", "LANGUAGE", "CLASSES", "UTTERANCES", "SPEAKERS", "LICENCE")]
    for name in corpora.names():
        spec = corpora.get_spec(name)
        count = sum(spec.official_counts.get(label, 0) for label in spec.labels)
        rows.append(
            (
                name,
                spec.title,
                spec.language,
                str(len(spec.labels) or "any"),
                f"{count:,}" if count else "any",
                str(spec.official_speakers or "any"),
                spec.licence,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    return 0


def _describe(name: str) -> str:
    spec = corpora.get_spec(name)
    split = spec.standard_split
    facts = {
        "corpus": f"{name}: {spec.title} ({spec.language})",
        "classes": ", ".join(
            f"{label} {spec.official_counts[label]:,}" if label in spec.official_counts else label
            for label in spec.labels
        ),
        "left out": ", ".join(spec.other_labels),
        "layout": spec.layout,
        "sample rate": f"{spec.sample_rate:,} Hz" if spec.sample_rate else "",
        "standard split": split
        if isinstance(split, str)
        else f"train {' '.join(split.train)}; val {' '.join(split.val) or 'none'}; "
        f"test {' '.join(split.test)}",
        "licence": spec.licence,
        "obtain": spec.obtain,
        "pages": " ".join(spec.urls),
    }
    lines = [f"{key + ':':16}{value}" for key, value in facts.items() if value]
    return "\n".join([*lines, *(f"- {quirk}" for quirk in spec.quirks)])


def _check(options: argparse.Namespace) -> int:
    from jaxser.corpora.check_report import report_text
    from jaxser.corpora.checking import check

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
