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

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import hold_to_threads, write_report
from jaxser.runtime.errors import InputError, UsageError, report_errors

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.attack_peers import Work
    from jaxser.victims.victim import Victim


@dataclasses.dataclass(frozen=True)
class Case:
    """One attack of one peer and its counterpart here.

    Attributes:
      attack: makes the counterpart.
      work: what both sides do.
      norm: of the distortion in the table.
      batched: whether the peer takes a batch at a time.
      frozen: whether the peer's parameters want no gradients, which is the fastest for it; those of
        a model that was trained just before do want them.
      noise_starts: whether the peer starts from full-scale noise and stops with an error where that
        is of the utterance's own class; such utterances are left out on both sides.
      rows: at most, where the peer is slow; None: all.
    """

    attack: Callable[["Work"], Any]
    work: dict[str, Any]
    norm: str
    batched: bool = True
    frozen: bool = True
    noise_starts: bool = False
    rows: int | None = None


def cases() -> dict[str, dict[str, Case]]:
    """Peer → attack → case."""
    from jaxser import attacks

    sweep = tuple(0.0005 * 1.35**i for i in range(16))
    return {
        "torchattacks": {
            "pgd": Case(lambda w: attacks.PGD(steps=w.steps), {"steps": 20}, "linf"),
            "fgsm": Case(lambda w: attacks.FGSM(), {"epsilons": sweep}, "linf"),
            "mifgsm": Case(lambda w: attacks.MIFGSM(steps=w.steps), {"steps": 10}, "linf"),
            "eotpgd": Case(lambda w: attacks.EOTPGD(steps=w.steps, samples=2), {}, "linf"),
            "deepfool": Case(
                lambda w: attacks.DeepFool(steps=w.steps), {"steps": 50}, "l2", batched=False
            ),
            "deepfool_trainable": Case(
                lambda w: attacks.DeepFool(steps=w.steps),
                {"steps": 50},
                "l2",
                batched=False,
                frozen=False,
            ),
            "sparsefool": Case(
                lambda w: attacks.SparseFool(variant="torchattacks", steps=w.steps),
                {"steps": 10},
                "l0",
                batched=False,
                rows=16,
            ),
            "square": Case(
                lambda w: attacks.Square(queries=w.queries),
                {"queries": 100, "epsilons": (0.005,)},
                "linf",
            ),
            "pixle": Case(
                lambda w: attacks.Pixle(restarts=w.steps, iterations=w.population),
                {"steps": 10, "population": 10},
                "l0",
                batched=False,
                rows=16,
            ),
        },
        "art": {
            "deepfool": Case(lambda w: attacks.DeepFool(steps=w.steps), {"steps": 20}, "l2"),
            "jsma": Case(
                lambda w: attacks.JSMA(theta=w.epsilons[0], gamma=w.step or 1.0, compat="art"),
                {"epsilons": (0.1,), "step": 0.001},
                "l0",
            ),
            # Without abort_early, so that both take every step.
            "carlinil2": Case(
                lambda w: attacks.CarliniL2(
                    steps=w.steps,
                    binary_search_steps=w.binary_steps,
                    initial_const=0.01,
                    abort_early=False,
                ),
                {"steps": 10, "binary_steps": 6},
                "l2",
                rows=4,
            ),
            "carlinilinf": Case(
                lambda w: attacks.CarliniLinf(steps=w.steps),
                {"steps": 10},
                "linf",
                batched=False,
                rows=8,
            ),
            "onepixel": Case(
                lambda w: attacks.OnePixel(population=399, generations=w.steps),
                {"steps": 2, "epsilons": (2.0,)},
                "l0",
                batched=False,
                rows=4,
            ),
        },
        "foolbox": {
            "pgd": Case(lambda w: attacks.PGD(steps=w.steps), {"steps": 20}, "linf"),
            "boundary": Case(
                lambda w: attacks.Boundary(queries=w.queries),
                {"queries": 300, "steps": 230},
                "l2",
                noise_starts=True,
            ),
            "hopskipjump": Case(
                lambda w: attacks.HopSkipJump(queries=w.queries),
                {"steps": 4, "queries": 1000},
                "l2",
                noise_starts=True,
            ),
            "carlinil2": Case(
                lambda w: attacks.CarliniL2(steps=w.steps, binary_search_steps=w.binary_steps),
                {"steps": 50, "binary_steps": 4},
                "l2",
            ),
        },
        "scipy": {
            "onepixel": Case(
                lambda w: attacks.OnePixel(population=w.population, generations=w.steps),
                {"steps": 4, "population": 300, "epsilons": (0.1,)},
                "l0",
                batched=False,
                rows=4,
            ),
        },
    }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What one attack took on both sides; lists have one value per pair of turns."""

    peer: str
    attack: str
    parameters: dict[str, Any]
    work: dict[str, Any]
    rows: int
    seconds: float
    norm: str
    batch_size: int
    peer_batch_size: int
    rows_per_s: list[float]
    peer_rows_per_s: list[float]
    ratios: list[float]
    compile_s: float
    success: float
    peer_success: float
    distortion: float
    peer_distortion: float
    queries: float
    peer_queries: float
    wasted: float
    making_ratios: list[float] | None = None

    def row(self) -> str:
        """The line of the printed table."""
        ours, theirs, ratio = map(
            statistics.median, (self.rows_per_s, self.peer_rows_per_s, self.ratios)
        )
        line = (
            f"{self.attack:12} {ours:9.3f} {theirs:9.3f} {ratio:6.2f} "
            f"({min(self.ratios):.2f}–{max(self.ratios):.2f})  "
            f"{self.success:5.0%} {self.peer_success:5.0%}  {self.distortion:9.4g} "
            f"{self.peer_distortion:9.4g} {self.norm:4}  {self.queries:7.0f} "
            f"{self.peer_queries:7.0f}  {self.batch_size:3}/{self.peer_batch_size:<3} "
            f"{self.compile_s:5.1f} s {self.wasted:5.1%}"
        )
        if self.making_ratios is not None:
            made = self.making_ratios
            line += (
                f"\n{'  making only':12} {'':19} {statistics.median(made):6.2f} "
                f"({min(made):.2f}–{max(made):.2f})"
            )
        return line


HEADER = (
    f"{'attack':12} {'rows/s':>9} {'peer':>9}  ratio (min–max)    success/peer  "
    "distortion/peer  norm   queries/peer  batch    compile  wasted"
)


@dataclasses.dataclass(frozen=True)
class Bench:
    """Both sides of one run."""

    victim: "Victim"
    twin: Any
    x: "np.ndarray"
    y: "np.ndarray"
    seconds: float
    pairs: int

    def compare(self, peer: str, name: str, case: Case) -> Comparison:
        """Take turns at one attack."""
        import numpy as np

        from benchmarks.attack_peers import PEERS, PeerVictim, Work
        from jaxser import run_attack
        from jaxser.attacks import parameters

        work = Work(**case.work)
        attack = case.attack(work)
        x, y = self._rows(case)
        count = len(x)
        victim = PeerVictim(self.twin)
        victim.requires_grad_(not case.frozen)
        theirs = PEERS[peer][name]
        size = self._peer_batch_size(count) if case.batched else 1
        epsilons = (float("inf"),) if attack.minimal_norm else work.epsilons
        batch_size = self._batch_size(attack, epsilons, x, y)

        def our_turn() -> tuple[float, Any]:
            result = run_attack(self.victim, x, y, attack, epsilons, batch_size=batch_size)
            return count / result.throughput.seconds, result

        def their_turn() -> tuple[float, Any]:
            start = time.perf_counter()
            x_adv = theirs(victim, x, y, work, size)
            return count / (time.perf_counter() - start), x_adv

        _, first = our_turn()
        ours_done, theirs_done = [], []
        for _ in range(self.pairs):
            ours_done.append(our_turn())
            theirs_done.append(their_turn())
        result = ours_done[0][1]
        our_adv, their_adv = result.x_adv, theirs_done[0][1].reshape(-1, *x.shape)
        success = [self._success(x_adv, y) for x_adv in (our_adv, their_adv)]
        both = success[0] & success[1]
        distortion = [
            self._distortion(x_adv - x[None], both, case.norm) for x_adv in (our_adv, their_adv)
        ]
        rates = [rate for rate, _ in ours_done], [rate for rate, _ in theirs_done]
        used = result.throughput
        return Comparison(
            peer=peer,
            attack=name,
            parameters=parameters(attack),
            work=case.work,
            rows=count,
            seconds=self.seconds,
            norm=case.norm,
            batch_size=batch_size,
            peer_batch_size=size,
            rows_per_s=rates[0],
            peer_rows_per_s=rates[1],
            ratios=[a / b for a, b in zip(*rates, strict=True)],
            compile_s=first.throughput.compile_seconds,
            success=float(success[0].mean()),
            peer_success=float(success[1].mean()),
            distortion=distortion[0],
            peer_distortion=distortion[1],
            queries=float(np.mean(result.queries)),
            peer_queries=victim.forward_rows / self.pairs / count / len(epsilons),
            wasted=used.wasted_row_steps / used.row_steps,
            making_ratios=self._making_ratios(attack, work, size) if name == "fgsm" else None,
        )

    def _rows(self, case: Case) -> tuple["np.ndarray", "np.ndarray"]:
        """The utterances of this case, and the labels to leave."""
        import numpy as np

        from jaxser.driver.run import predict

        keep = np.arange(len(self.x))
        if case.noise_starts:
            noise = np.random.default_rng(0).uniform(-1, 1, (16, self.x.shape[1]))
            keep = keep[~np.isin(self.y, predict(self.victim, noise.astype(np.float32)))]
            if not len(keep):
                raise InputError("full-scale noise is of the class of every utterance here.")
        keep = keep[: case.rows]
        return self.x[keep], self.y[keep]

    def _success(self, x_adv: "np.ndarray", y: "np.ndarray") -> "np.ndarray":
        """Both sides' examples are judged by the same victim."""
        import numpy as np

        from jaxser.driver.run import predict

        predicted = [predict(self.victim, np.asarray(each, np.float32)) for each in x_adv]
        return np.stack(predicted) != y[None]

    def _distortion(self, delta: "np.ndarray", where: "np.ndarray", norm: str) -> float:
        """Median over the rows where both succeeded; entries under 1e-6 are rounding."""
        import numpy as np

        delta = delta.astype(np.float64)
        size = np.abs(delta)
        measured = {
            "l0": (size > 1e-6).sum(axis=-1).astype(float),
            "l2": np.sqrt(np.square(delta).sum(axis=-1)),
            "linf": size.max(axis=-1),
        }[norm]
        return float(np.median(measured[where])) if where.any() else float("nan")

    def _batch_size(
        self, attack: Any, epsilons: tuple[float, ...], x: "np.ndarray", y: "np.ndarray"
    ) -> int:
        """The best of a few for this attack, on a few of its steps."""
        from jaxser import run_attack

        if attack.forward_rows > 1:
            return max(1, min(len(x), 256 // attack.forward_rows))
        best = {}
        for size in sorted({min(size, len(x)) for size in (4, 8, 16, 32)}):
            short = attack
            for field in ("steps", "queries"):
                if hasattr(attack, field):
                    short = dataclasses.replace(short, **{field: min(getattr(short, field), 3)})
            for _ in range(2):  # the first one warms up
                done = run_attack(self.victim, x, y, short, epsilons, batch_size=size)
            best[size] = done.throughput.rows_per_second
        return max(best, key=lambda size: best[size])

    def _peer_batch_size(self, count: int) -> int:
        """The best of a few for PyTorch's input gradient, which most of its attacks spend on."""
        import torch

        rates = {}
        for size in (1, 4, 8, 16, 32):
            if size > count:
                continue
            x = torch.from_numpy(self.x[:size]).requires_grad_()
            for _ in range(2):
                start = time.perf_counter()
                torch.autograd.grad(self.twin(x).sum(), x)
                rates[size] = size / (time.perf_counter() - start)
        return max(rates, key=lambda size: rates[size])

    def _making_ratios(self, attack: Any, work: "Work", size: int) -> list[float]:
        """FGSM over all ε without scoring: one gradient here, one per ε there."""
        import functools

        import jax
        import jax.numpy as jnp

        from benchmarks.attack_peers import PeerVictim, torchattacks_fgsm_sweep

        epsilons = jnp.asarray(work.epsilons, jnp.float32)
        ours_size = min(16, len(self.x))

        @jax.jit
        def make(variables: Any, x: Any, y: Any) -> Any:
            logits_fn = functools.partial(self.victim.apply, variables)
            direction, _ = attack.direction(logits_fn, x, y)
            each = [attack.move(x, direction, jnp.full(len(x), epsilon)) for epsilon in epsilons]
            return jnp.stack(each)

        def our_turn() -> float:
            start = time.perf_counter()
            for first in range(0, len(self.x) - ours_size + 1, ours_size):
                rows = slice(first, first + ours_size)
                jax.block_until_ready(make(self.victim.variables, self.x[rows], self.y[rows]))
            done = len(self.x) // ours_size * ours_size
            return done / (time.perf_counter() - start)

        def their_turn() -> float:
            start = time.perf_counter()
            torchattacks_fgsm_sweep(PeerVictim(self.twin), self.x, self.y, work, size)
            return len(self.x) / (time.perf_counter() - start)

        our_turn()
        return [our_turn() / their_turn() for _ in range(self.pairs)]


def load_victim_and_speech(
    folder: Path, root: Path | None, seconds: float, rows: int
) -> tuple["Victim", "np.ndarray"]:
    """The victim at this length, and utterances of the test part, spread over it.

    Where the test part is smaller than that, utterances of the others come after it.
    """
    import numpy as np

    from jaxser.corpora.selection import select, split_rows
    from jaxser.victims.loading import load_victim
    from jaxser.victims.run_folder import read_run

    config, _ = read_run(folder)
    corpus = dataclasses.replace(config.corpus, seconds=seconds)
    if root is not None:
        corpus = dataclasses.replace(corpus, root=root)
    prepared = select(corpus)
    test = split_rows(prepared.corpus, "test")
    others = np.setdiff1d(np.arange(len(prepared.waveforms)), test)
    if len(test) + len(others) < rows:
        raise InputError(f"the corpus has {len(test) + len(others)} utterances, --rows is {rows}.")
    spread = np.linspace(0, len(test) - 1, min(rows, len(test))).round().astype(int)
    chosen = np.concatenate([test[spread], others[: rows - len(spread)]])
    x = np.asarray(prepared.waveforms[chosen], np.float32)
    return dataclasses.replace(load_victim(folder), input_shape=(x.shape[1],)), x


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=(__doc__ or "").split("\n\n")[0]
    )
    peers = ("torchattacks", "art", "foolbox", "scipy")
    parser.add_argument("--peer", choices=peers, required=True)
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="all of the peer's by default")
    parser.add_argument("--victim", type=Path, default=Path("runs/emo18_emodb"), metavar="RUN")
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of an utterance")
    parser.add_argument("--rows", type=int, default=32, help="utterances at most")
    parser.add_argument("--pairs", type=int, default=3, help="counted turns of each side")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")
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
        comparison = bench.compare(args.peer, name, table[name])
        print(comparison.row(), flush=True)
        comparisons.append(comparison)
        if args.out is not None:
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


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
