"""What ``python -m jaxser.report`` takes: folders of rows, and what is made of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxser.config.parser import CommandParser, add_interval_over, command_name
from jaxser.config.ranges import IntervalOver
from jaxser.runtime.errors import UsageError

__all__ = ["ReportConfig", "parse_report"]


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """One report; see ``--help`` for its parts."""

    run: list[Path]
    out: Path
    csv: Path | None
    markdown: Path | None
    latex: Path | None
    compare: list[Path] | None
    table: list[Path]
    line: list[str]
    speed: Path | None
    audio: int | None
    epsilon: float | None
    figures: Path | None
    interval_over: IntervalOver

    @property
    def groups(self) -> list[list[Path]]:
        """Folders that are one thing: all runs together, or the two to compare apart."""
        if self.compare:
            return [[run] for run in self.compare]
        return [self.run] if self.run else []


def parse_report(argv: Sequence[str] | None = None) -> ReportConfig:
    """Read the command line; UsageError for what is unknown, wrong or does not go together."""
    config = ReportConfig(**vars(_parser().parse_args(argv)))
    if bool(config.run) == bool(config.compare) and not (config.speed and not config.run):
        raise UsageError("give folders that hold rows, or --compare with two; see --help.")
    if config.compare:
        _check_apart(*config.compare)
    if config.compare and (config.table or config.speed or config.audio or config.epsilon):
        raise UsageError(
            "--table, --speed, --audio and --epsilon are for one report; leave them out with "
            "--compare."
        )
    if config.audio is not None and config.audio < 1:
        raise UsageError(f"--audio {config.audio} is no number of utterances; give 1 or more.")
    if config.audio and not config.run:
        raise UsageError("--audio needs folders that hold rows.")
    if config.table and not config.run and not config.speed:
        raise UsageError("--table needs folders that hold rows, or --speed.")
    if config.line and not config.table:
        raise UsageError("--line is of a table; give --table too.")
    if config.out.suffix != ".html":
        raise UsageError(f"--out {config.out} must end in .html.")
    for folder in (config.csv, config.markdown, config.latex, config.figures):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for the tables and figures.")
    return config


def _check_apart(first: Path, second: Path) -> None:
    """Refuse to compare a run with itself, or with a part of it."""
    a, b = first.resolve(), second.resolve()
    if a == b:
        raise UsageError(f"--compare has {first} twice; give two runs.")
    if a in b.parents or b in a.parents:
        raise UsageError(f"{first} and {second} lie in one another; give --compare two runs.")


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("report"),
        usage="%(prog)s RUN [RUN ...] [--flag VALUE ...]",
        description="Make a report from the rows of attacks and sweeps.",
    )
    parser.add_argument(
        "run", type=Path, nargs="*", metavar="RUN", help="folders that hold rows, or certificates"
    )
    used = parser.add_argument_group("most used")
    used.add_argument("--out", type=Path, default=Path("report.html"), help="HTML page to write")
    used.add_argument(
        "--csv", type=Path, metavar="FOLDER", help="all tables as CSV files, for programs"
    )
    used.add_argument("--markdown", type=Path, metavar="FOLDER", help="and as Markdown")
    used.add_argument("--latex", type=Path, metavar="FOLDER", help="and as LaTeX, for booktabs")
    used.add_argument(
        "--figures", type=Path, metavar="FOLDER",
        help="every figure as PDF, SVG and PNG, as wide as a column of a paper or as two",
    )  # fmt: skip
    used.add_argument(
        "--epsilon", type=float,
        help="to answer for at the head of the page; without: the largest at which the mean peak "
        "SNR is 30 dB or more",
    )  # fmt: skip
    used.add_argument(
        "--compare", type=Path, nargs=2, metavar="RUN", help="two folders side by side, instead"
    )
    add_interval_over(used)
    papers = parser.add_argument_group("beside papers and peers")
    papers.add_argument(
        "--table",
        type=Path,
        nargs="+",
        default=[],
        metavar="TABLE.yaml",
        help="a paper's tables, filled as far as there are rows, and its seconds beside those here",
    )
    papers.add_argument(
        "--line",
        nargs="+",
        default=[],
        metavar="LINE=RUN",
        help="what a line of a table is of, where rows do not say it: a generator of staanet, or a "
        "victim that was trained against the attack of the line",
    )
    papers.add_argument(
        "--speed", type=Path, metavar="FOLDER", help="of benchmark results: speed beside peers"
    )
    heard = parser.add_argument_group("to listen to")
    heard.add_argument(
        "--audio",
        type=int,
        metavar="N",
        help="players and pictures of N utterances of every victim and attack, at the weakest "
        "epsilon that succeeded; they are attacked again, which needs the victims and the speech",
    )
    return parser
