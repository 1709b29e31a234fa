"""The corpora from the command line.

    python -m jaxser.corpora list [NAME]
    python -m jaxser.corpora check NAME ROOT [--json]
    python -m jaxser.corpora prepare NAME ROOT [--seconds 2] [--chunks [--augment]] [--skip_damaged]
    python -m jaxser.corpora download NAME [ROOT]

Exit status: 0; 1 if something is wrong with the corpus; 2 if the command line is.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxser import corpora
from jaxser.config.parser import command_name
from jaxser.corpora.command_line import corpora_parser
from jaxser.corpora.listing import corpora_table, description
from jaxser.runtime.errors import UsageError, report_errors
from jaxser.runtime.terminal import terminal_width
from jaxser.runtime.text import counted

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return report_errors(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = corpora_parser().parse_args(arguments)
    done_by = {"list": _list, "check": _check, "prepare": _prepare, "download": _download}
    return done_by[options.command](options)


def _list(options: argparse.Namespace) -> int:
    print(corpora_table(terminal_width()) if options.name is None else description(options.name))
    return 0


def _check(options: argparse.Namespace) -> int:
    from jaxser.corpora.check_report import report_text
    from jaxser.corpora.checking import check

    report = check(options.name, options.root, workers=options.workers, shortest=options.shortest)
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(report_text(report))
    return int(report["status"])


def _prepare(options: argparse.Namespace) -> int:
    from jaxser.config import CorpusConfig
    from jaxser.corpora.selection import chunking, parts_text, with_parts

    settings = corpora.AudioSettings(
        sample_rate=options.sample_rate,
        seconds=options.seconds,
        channel=options.channel,
        length=options.length,
        shortest=options.shortest,
        chunking=chunking(options.chunks, options.augment),
    )
    prepared = corpora.prepare(
        corpora.load(options.name, options.root, labels=tuple(options.labels) or None),
        settings,
        cache_dir=options.cache_dir,
        skip_damaged=options.skip_damaged,
        workers=options.workers,
    )
    rows, samples = prepared.waveforms.shape
    print(f"{prepared.corpus.title}: {counted(rows, 'utterance')} of {samples:,} samples")
    for note in prepared.corpus.notes:
        print(f"note: {note}")
    if options.protocol is not None:
        split = CorpusConfig(name=options.name, protocol=options.protocol)
        parted = with_parts(prepared.corpus, split)
        print(f"parts of the protocol {options.protocol}: {parts_text(parted)}")
        for note in parted.notes[len(prepared.corpus.notes) :]:
            print(f"note: {note}")
    for name, reason in prepared.skipped:
        print(f"left out: {name}: {reason}")
    for name, reason in prepared.clipped:
        print(f"clipped: {name}: {reason}")
    print(f"fingerprint: {prepared.fingerprint}")
    print(f"folder: {prepared.folder}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from jaxser.corpora.downloading import download

    spec = corpora.get_spec(options.name)
    if options.root is None and spec.download:
        raise UsageError(
            f"say where {spec.title} is to be put: {command_name('corpora')} download "
            f"{options.name} ROOT, a new or empty folder."
        )
    # Of what nobody may fetch it says where to apply, whatever the folder.
    print(download(spec, options.root or Path()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
