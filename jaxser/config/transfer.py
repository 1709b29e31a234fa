"""What ``python -m jaxser.transfer`` takes: a table file, threat models, generators and victims."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxser.config.hearing import add_hearing
from jaxser.config.parser import (
    CommandParser,
    add_interval_over,
    check_folder,
    command_name,
    seed_of,
)
from jaxser.config.ranges import IntervalOver
from jaxser.runtime.errors import UsageError

__all__ = ["TransferConfig", "parse_transfer"]


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """A table file on threat models, heard by victims.

    Attributes:
      generator: "[LINE=]RUN" each, for each threat model in turn; "LINE=none": there is none.
      match_sparsity: share of changed samples that sparse PGD is to arrive at, or the line whose
        share it is.
    """

    table: Path
    threat: list[Path]
    victim: list[Path]
    generator: list[str]
    attacks: list[str] | None
    match_sparsity: str | None
    out: Path | None
    corpus: list[str]
    labels: list[str]
    seconds: float | None
    split: list[Literal["train", "val", "test"]]
    limit: int | None
    root: Path | None
    seed: int
    interval_over: IntervalOver


def parse_transfer(argv: Sequence[str] | None = None) -> TransferConfig:
    """Read the command line; UsageError for what is unknown or wrong."""
    config = TransferConfig(**vars(_parser().parse_args(argv)))
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"--limit {config.limit} leaves nothing to attack; give 1 or more.")
    check_folder(config.out)
    return config


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("transfer"),
        usage="%(prog)s TABLE.yaml --threat RUN [RUN ...] --victim RUN [RUN ...] "
        "[--flag VALUE ...]",
        description="Attack threat models with all attacks of a table file, and score the "
        "adversarial speech on other victims.",
    )
    parser.add_argument(
        "table", type=Path, metavar="TABLE.yaml", help="attacks, as in configs/tables"
    )
    used = parser.add_argument_group("most used")
    used.add_argument(
        "--threat",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="run folders of the victims that are attacked, or models of Hugging Face",
    )
    used.add_argument(
        "--victim",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="run folders, or models of Hugging Face, of those that hear what was made",
    )
    used.add_argument(
        "--generator",
        nargs="+",
        default=[],
        metavar="[LINE=]RUN",
        help="of staanet, a run folder or a file of the authors' keys, one for each threat; LINE= "
        "where several lines of the table need one; a line without one, or with LINE=none, is left "
        "open",
    )
    used.add_argument("--attacks", nargs="+", metavar="NAME", help="of the table; all by default")
    used.add_argument(
        "--match_sparsity",
        metavar="SHARE|LINE",
        help="choose the count of sparse PGD so that this share of the samples changes in the end, "
        "such as 0.125, or as many as in a line of the table, such as STAA-Net",
    )
    used.add_argument("--out", type=Path, help="folder for transfer.{md,html,csv}")
    add_interval_over(used)
    speech = parser.add_argument_group("which speech, and how it runs")
    speech.add_argument(
        "--split",
        nargs="+",
        choices=["train", "val", "test"],
        default=["val", "test"],
        help="parts of the corpus (val test)",
    )
    speech.add_argument(
        "--corpus",
        nargs=1,
        default=[],
        metavar="NAME=FOLDER",
        help="speech of threat models of Hugging Face, or another corpus than that of the runs",
    )
    add_hearing(speech)
    speech.add_argument("--limit", type=int, help="utterances of each part, spread over it")
    speech.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    speech.add_argument("--seed", type=seed_of, default=0, help="of random starts")
    return parser
