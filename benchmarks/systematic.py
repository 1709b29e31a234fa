"""The systematic evaluation's Table 5, cell by cell, beside ART on the same weights.

    python -m benchmarks.systematic --victim runs/cnn_lstm_emodb --root ~/corpora/emodb
    python -m benchmarks.systematic --attacks FGSM BIM JSMA --rows 32 --out table5.json

Facchinetti et al., 2024. Both sides change the same standardised log-mels of a trained CNN-LSTM,
with the configurations of configs/tables/systematic_table5.yaml that do what ART does, and attack
the label that the victim predicts; accuracy is against the truth. ART gets the parameters of the
same attack objects, its batches of 256 and PyTorch's twin of the victim. Each side's examples are
judged by its own model.

Two lines need a word. JSMA has no untargeted form in ART, which draws random targets: they are
drawn here, once, and both sides get the same. PixelAttack lowers what the model returns for the
label: ART's gets the softmax, as the authors' models end in one.

Where ART is slow both sides get fewer rows (the column "rows"; ``--most`` for all lines at once);
the total is given as it ran, and per utterance over all lines, where each line counts the same.
Compilation is not counted. On a machine that others use too, --threads 1 is the fairer comparison:
PyTorch's threads wait for each other, so that it loses more than its share.
"""

import dataclasses
from pathlib import Path

from benchmarks.command import add_threads_and_out, command_parser, write_report
from benchmarks.machine import hold_to_threads
from benchmarks.systematic_art import peers
from benchmarks.systematic_cells import HEADER, Cell, Table, totals
from benchmarks.victims import add_victim, load_victim_and_features
from jaxser.runtime.errors import UsageError, nearest_name, report_errors

TABLE = Path("configs/tables/systematic_table5.yaml")


def main(argv: list[str] | None = None) -> int:
    """Parse, run both sides line by line, print; returns the exit status."""
    names = list(peers())
    parser = command_parser("systematic", __doc__)
    add_victim(parser, "runs/cnn_lstm_emodb")
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rows", type=int, default=64, help="utterances at most")
    parser.add_argument("--most", type=int, help="utterances of every line, not the line's own")
    parser.add_argument("--seed", type=int, default=0)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    for name in args.attacks or ():
        if name not in names:
            raise UsageError(f"there is no line {name!r}; {nearest_name(name, names)}")

    busy = hold_to_threads(args.threads)
    from benchmarks.torch_twins import twin_of
    from jaxser.papers.table import load_table
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    victim, x, labels = load_victim_and_features(args.victim, args.root, args.rows)
    table = Table(victim, twin_of(victim.name, victim.variables), x, labels, args.seed)
    table.warm_up()
    cells: list[Cell] = []
    print(HEADER, flush=True)
    for entry in load_table(TABLE).attacks:
        if entry.title not in (args.attacks or names):
            continue
        peer = peers()[entry.title]
        for cell in table.line(entry, peer, args.most or peer.rows):
            print(cell.line(), flush=True)
            cells.append(cell)
        # line by line: it takes long, and may be stopped
        write_report(
            args.out,
            busy,
            args.threads,
            victim=args.victim.name,
            seed=args.seed,
            cells=[{**dataclasses.asdict(cell), "same": cell.same} for cell in cells],
        )
    print(totals(cells))
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
