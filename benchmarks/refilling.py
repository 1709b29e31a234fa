"""Share of row-steps that are wasted on rows that are done, with refilling and without.

    python -m benchmarks.refilling --victim runs/emo18_emodb
    python -m benchmarks.refilling --attacks deepfool --rows 256 --batch_sizes 4 16

Rows of minimal-norm and query attacks end at different times. A batch that is refilled gives the
slot of a finished row to the next one; a plain batch runs until its last row is done. Rows are the
same either way, which is checked here too.
"""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.command import command_parser, write_json
from benchmarks.victims import add_victim, load_victim_and_speech
from jaxser.runtime.errors import UsageError, report_errors


def cases() -> dict[str, tuple[Any, list[float]]]:
    """Attack and ε by name; hyper-parameters short enough for 256 utterances on a CPU."""
    from jaxser import attacks

    anything = [float("inf")]
    return {
        "deepfool": (attacks.DeepFool(), anything),
        "sparsefool": (attacks.SparseFool(), anything),
        "boundary": (attacks.Boundary(queries=300), anything),
        "onepixel": (attacks.OnePixel(population=20, generations=10), [0.3]),
    }


@dataclasses.dataclass(frozen=True)
class Waste:
    """One attack at one batch size; shares of all row-steps."""

    attack: str
    parameters: dict[str, Any]
    rows: int
    batch_size: int
    success: float
    steps_median: float
    steps_max: int
    wasted: float
    wasted_plain: float
    seconds: float
    seconds_plain: float

    def row(self) -> str:
        """The line of the printed table."""
        return (
            f"{self.attack:12} {self.rows:4} {self.batch_size:5}  {self.success:5.0%} "
            f"{self.steps_median:7.0f} {self.steps_max:6}   {self.wasted:6.1%} "
            f"{self.wasted_plain:6.1%}   {self.seconds:7.1f} s {self.seconds_plain:7.1f} s"
        )


HEADER = (
    f"{'attack':12} rows batch  success  steps (median, max)  wasted plain     seconds     plain"
)


def measure(
    victim: Any, x: Any, y: Any, attack: Any, epsilons: list[float], batch_size: int
) -> Waste:
    """Run an attack with refilling and without."""
    import numpy as np

    from jaxser import run_attack
    from jaxser.attacks import parameters

    done, plain = (
        run_attack(victim, x, y, attack, epsilons, batch_size=batch_size, refill=refill)
        for refill in (True, False)
    )
    if not np.array_equal(done.x_adv, plain.x_adv):
        raise AssertionError(f"{attack.name}: refilling changed a row.")
    return Waste(
        attack=attack.name,
        parameters=parameters(attack),
        rows=len(x),
        batch_size=batch_size,
        success=float(done.success.mean()),
        steps_median=float(np.median(done.steps)),
        steps_max=int(done.steps.max()),
        wasted=done.throughput.wasted_row_steps / done.throughput.row_steps,
        wasted_plain=plain.throughput.wasted_row_steps / plain.throughput.row_steps,
        seconds=done.throughput.seconds,
        seconds_plain=plain.throughput.seconds,
    )


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("refilling", __doc__)
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="all by default")
    add_victim(parser, "runs/emo18_emodb")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an utterance")
    parser.add_argument("--rows", type=int, default=256, help="utterances")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[8], help="slots")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)

    from jaxser.driver.run import predict
    from jaxser.runtime.provenance import environment

    table = cases()
    names = args.attacks or list(table)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise UsageError(f"no refilling case named {unknown[0]}; give some of {', '.join(table)}.")
    victim, x = load_victim_and_speech(args.victim, args.root, args.seconds, args.rows)
    y = predict(victim, x)
    print(HEADER)
    measured = []
    for name in names:
        attack, epsilons = table[name]
        for batch_size in args.batch_sizes:
            waste = measure(victim, x, y, attack, epsilons, batch_size)
            print(waste.row(), flush=True)
            measured.append(waste)
    if args.out is not None:
        report = {
            "environment": environment(),
            "victim": str(args.victim),
            "seconds": args.seconds,
            "measured": [dataclasses.asdict(waste) for waste in measured],
        }
        write_json(args.out, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
