"""What ``python -m jaxser.evaluate`` takes: table files, and the victims to attack as they say."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxser.config.parser import (
    CommandParser,
    add_interval_over,
    check_folder,
    command_name,
    seed_of,
)
from jaxser.config.ranges import IntervalOver

__all__ = ["EvaluateConfig", "parse_evaluate"]


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Table files on victims; None is as the tables and the victims' runs say."""

    table: list[Path]
    victim: list[Path]
    attacks: list[str] | None
    limit: list[str]
    out: Path | None
    root: Path | None
    batch_size: int | None
    seed: int
    interval_over: IntervalOver


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateConfig:
    """Read the command line; UsageError for what is unknown or wrong."""
    config = EvaluateConfig(**vars(_parser().parse_args(argv)))
    check_folder(config.out)
    return config


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("evaluate"),
        usage="%(prog)s TABLE.yaml [TABLE.yaml ...] --victim RUN [RUN ...] [--flag VALUE ...]",
        description="Attack victims with all attacks of table files, and show the strongest "
        "setting of each beside what the paper printed.",
    )
    parser.add_argument(
        "table", type=Path, nargs="+", metavar="TABLE.yaml", help="attacks, as in configs/tables"
    )
    used = parser.add_argument_group("most used")
    used.add_argument(
        "--victim", type=Path, nargs="+", required=True, metavar="RUN", help="run folders"
    )
    used.add_argument("--attacks", nargs="+", metavar="NAME", help="of the tables; all by default")
    used.add_argument(
        "--limit",
        nargs="+",
        default=[],
        metavar="[NAME=]N",
        help="utterances to attack, spread over the part; of one attack with its name",
    )
    used.add_argument("--out", type=Path, help="folder of a report, every setting and pictures")
    add_interval_over(used)
    runs = parser.add_argument_group("how it runs")
    runs.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    runs.add_argument("--batch_size", type=int, help="rows per batch; found by memory by default")
    runs.add_argument("--seed", type=seed_of, default=0, help="of random starts")
    return parser
