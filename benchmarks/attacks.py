"""Rows per second of every attack, beside torchattacks, ART, Foolbox and SciPy.

    python -m benchmarks.attacks --peer torchattacks --victim runs/emo18_emodb
    python -m benchmarks.attacks --peer scipy --attacks onepixel --seconds 6
    python -m benchmarks.attacks --peer art --out benchmarks/results/attacks_art.json

Both sides attack the same utterances of a trained victim with the same weights, as many threads,
and equal work: the same iterations, or the same number of queries. Each runs at its best batch
size, which is found first; they take turns (A B A B) within one run, and a ratio is that of two
neighbouring turns. Compilation is not counted. The labels attacked are the clean predictions, so
that every row needs work. Where the peer is slow, both sides get fewer rows.
"""

import dataclasses

from benchmarks.attack_cases import Case, cases
from benchmarks.attack_turns import HEADER, Bench
from benchmarks.command import add_threads_and_out, add_turns, command_parser, write_report
from benchmarks.machine import hold_to_threads
from benchmarks.peers import PEERS
from benchmarks.victims import add_victim, load_victim_and_speech
from jaxser.runtime.errors import UsageError, report_errors


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("attacks", __doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="all of the peer's by default")
    add_victim(parser, "runs/emo18_emodb")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an utterance")
    parser.add_argument("--epsilon", type=float, help="in place of the attack's own here")
    parser.add_argument("--rows", type=int, default=32, help="utterances at most")
    add_turns(parser, 3)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)

    busy = hold_to_threads(args.threads)
    import jax.numpy as jnp
    import torch

    from benchmarks.torch_twins import twin_of
    from jaxser.driver.run import predict

    table = cases()[args.peer]
    names = args.attacks or list(table)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise UsageError(
            f"{args.peer} has no counterpart of {unknown[0]} here; give some of {', '.join(table)}."
        )
    victim, x = load_victim_and_speech(args.victim, args.root, args.seconds, args.rows)
    twin = twin_of(victim.name, victim.variables)
    y = predict(victim, x)
    with torch.no_grad():
        theirs = twin(torch.from_numpy(x)).numpy()
    apart = float(abs(theirs - victim.logits(jnp.asarray(x))).max())
    print(
        f"{victim.name} of {args.victim}, {len(x)} utterances of {args.seconds:g} s, {args.peer}; "
        f"the two sides' logits differ by at most {apart:.1e}"
    )
    print(HEADER)
    bench = Bench(victim, twin, x, y, args.seconds, args.pairs)
    comparisons = []
    for name in names:
        comparison = bench.compare(args.peer, name, with_epsilon(table[name], args.epsilon))
        print(comparison.row(), flush=True)
        comparisons.append(comparison)
        write_report(
            args.out,
            busy,
            args.threads,
            victim=str(args.victim),
            logits_apart=apart,
            pairs=args.pairs,
            comparisons=[dataclasses.asdict(each) for each in comparisons],
        )
    return 0


def with_epsilon(case: Case, epsilon: float | None) -> Case:
    """The case at another ε, where one is given."""
    if epsilon is None:
        return case
    return dataclasses.replace(case, work={**case.work, "epsilons": (epsilon,)})


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
