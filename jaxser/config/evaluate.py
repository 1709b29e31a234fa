"""What ``python -m jaxser.evaluate`` takes: table files, and the victims to attack as they say, or
how to train those that are missing."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from jaxser.config.evaluate_flags import ATTACKING, check_flags
from jaxser.config.hearing import add_hearing
from jaxser.config.parser import (
    CommandParser,
    add_interval_over,
    check_folder,
    command_name,
    seed_of,
)
from jaxser.config.ranges import Domain, IntervalOver
from jaxser.config.reading import load_yaml
from jaxser.runtime.errors import UsageError

__all__ = ["Defended", "EvaluateConfig", "check_tables", "parse_evaluate"]

Defended = Literal["none", "own", "all"]


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Table files on victims; None is as the tables and the victims' runs say.

    Attributes:
      corpus: "NAME=FOLDER" each: what victims are trained on; or one, to attack victims on.
      labels, seconds: "VICTIM=CORPUS" each, and the length of speech, of victims of Hugging Face.
      lines, kinds: of tables whose victims are trained: names of victims and kinds of image.
      seeds: how many runs of every cell.
      runs: folder of the run folders.
      set: "KEY=VALUE" each: changes of the configs that train; "LINE:KEY=VALUE": of one line's.
      defended: of tables of defences: which runs are trained against attacks, and attacked.
      domain, epsilon: what attacks change, and how far, in the place of what the table says.
    """

    table: list[Path]
    victim: list[Path]
    corpus: list[str]
    labels: list[str]
    seconds: float | None
    lines: list[str] | None
    kinds: list[str] | None
    seeds: int | None
    runs: Path
    set: list[str]
    defended: Defended
    domain: Domain | None
    epsilon: list[float] | None
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


def check_tables(config: EvaluateConfig) -> bool:
    """Whether the victims of the tables are trained, and not given.

    Raises:
      UsageError: tables of both kinds, a layout that is not known, or a flag that means nothing to
        the tables.
    """
    layouts = {path: str(load_yaml(path).get("layout", ATTACKING)) for path in config.table}
    trained = {layout != ATTACKING for layout in layouts.values()}
    if len(trained) > 1:
        raise UsageError("give tables of one kind: whose victims are trained, or are given.")
    defaults = vars(_parser().parse_args([str(path) for path in config.table]))
    check_flags(vars(config), defaults, layouts)
    return trained.pop()


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("evaluate"),
        usage="%(prog)s TABLE.yaml [TABLE.yaml ...] {--victim RUN ...,--corpus NAME=FOLDER ...} "
        "[--flag VALUE ...]",
        description="Attack victims with all attacks of table files, and show the strongest "
        "setting of each beside what the paper printed.",
    )
    parser.add_argument(
        "table", type=Path, nargs="+", metavar="TABLE.yaml", help="attacks, as in configs/tables"
    )
    used = parser.add_argument_group("most used")
    used.add_argument(
        "--victim",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="run folders, or models of Hugging Face, which need --corpus",
    )
    used.add_argument(
        *("--corpus",),
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="to train and attack on; of --victim: to attack on",
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
    trained = parser.add_argument_group("tables whose victims are trained where they are missing")
    trained.add_argument("--lines", nargs="+", metavar="NAME", help="victims; all by default")
    trained.add_argument("--kinds", nargs="+", metavar="KIND", help="images; all by default")
    trained.add_argument("--seeds", type=int, metavar="N", help="runs of a cell; the table's")
    trained.add_argument(
        "--runs", type=Path, default=Path("runs/benchmark"), help="folder of the run folders"
    )
    trained.add_argument(
        *("--set",),
        nargs="+",
        default=[],
        metavar="[LINE:]KEY=VALUE",
        help="change the configs that train, such as corpus.stride_ms=500 training.epochs=5; of a "
        "table of models also of one line, such as 'WavLM:model.checkpoint=FOLDER'",
    )
    trained.add_argument(
        "--defended",
        choices=get_args(Defended),
        default="own",
        help="of tables of defences: none: attack victims as training left them; own: also train "
        "them against each attack, and attack them with that, as the paper (default); all: attack "
        "every one of them with all attacks and AutoAttack",
    )
    trained.add_argument(
        "--domain", choices=get_args(Domain), help="what attacks change; as the table says"
    )
    trained.add_argument(
        "--epsilon", type=float, nargs="+", help="budgets in that domain; as the table says"
    )
    runs = parser.add_argument_group("how it runs")
    add_hearing(runs)
    runs.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    runs.add_argument("--batch_size", type=int, help="rows per batch; found by memory by default")
    runs.add_argument("--seed", type=seed_of, default=0, help="of random starts")
    return parser
