"""Both sides of one attack in turn: how long it takes, how often it succeeds, how far it goes."""

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.attack_cases import Case, Work
from benchmarks.turns import ratios, seconds_of, spread, take_turns, timed
from jaxser.runtime.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from jaxser.victims.victim import Victim

__all__ = ["HEADER", "Bench", "Comparison"]


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
    batch_size: int | None
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
        ours, theirs = map(statistics.median, (self.rows_per_s, self.peer_rows_per_s))
        line = (
            f"{self.attack:12} {ours:9.3f} {theirs:9.3f} {spread(self.ratios, width=6)}  "
            f"{self.success:5.0%} {self.peer_success:5.0%}  {self.distortion:9.4g} "
            f"{self.peer_distortion:9.4g} {self.norm:4}  {self.queries:7.0f} "
            f"{self.peer_queries:7.0f}  {self.batch_size or 'own':>3}/{self.peer_batch_size:<3} "
            f"{self.compile_s:5.1f} s {self.wasted:5.1%}"
        )
        if self.making_ratios is not None:
            line += f"\n{'  making only':12} {'':19} {spread(self.making_ratios, width=6)}"
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

        from benchmarks.peers import attacks_of
        from benchmarks.peers.victim import PeerVictim
        from jaxser import run_attack
        from jaxser.attacks import parameters
        from jaxser.driver.sequence import members

        work = Work(**case.work)
        attack = case.attack(work)
        x, y = self._rows(case)
        count = len(x)
        victim = PeerVictim(self.twin)
        victim.requires_grad_(not case.frozen)
        theirs = attacks_of(peer)[name]
        size = self._peer_batch_size(count) if case.batched else 1
        searches = all(part.minimal_norm for part in members(attack, len(self.victim.labels)))
        epsilons = (float("inf"),) if searches else work.epsilons
        batch_size = self._batch_size(attack, epsilons, x, y)

        def our_turn() -> tuple[float, Any]:
            result = run_attack(self.victim, x, y, attack, epsilons, batch_size=batch_size)
            return count / result.throughput.seconds, result

        def their_turn() -> tuple[float, Any]:
            seconds, x_adv = timed(lambda: theirs(victim, x, y, work, size))
            return count / seconds, x_adv

        _, first = our_turn()
        done = take_turns({"ours": our_turn, "theirs": their_turn}, self.pairs)
        result = done["ours"][0][1]
        our_adv, their_adv = result.x_adv, done["theirs"][0][1].reshape(-1, *x.shape)
        success = [self._success(x_adv, y) for x_adv in (our_adv, their_adv)]
        both = success[0] & success[1]
        distortion = [
            self._distortion(x_adv - x[None], both, case.norm) for x_adv in (our_adv, their_adv)
        ]
        rates = [rate for rate, _ in done["ours"]], [rate for rate, _ in done["theirs"]]
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
            ratios=ratios(*rates),
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
    ) -> int | None:
        """The best of a few for this attack, on a few of its steps; what the driver takes for the
        members of a sequence, of which each has another."""
        from jaxser import run_attack
        from jaxser.driver.sequence import AttackSequence

        if isinstance(attack, AttackSequence):
            return None
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
                seconds = seconds_of(lambda x: torch.autograd.grad(self.twin(x).sum(), x), x)
                rates[size] = size / seconds
        return max(rates, key=lambda size: rates[size])

    def _making_ratios(self, attack: Any, work: Work, size: int) -> list[float]:
        """FGSM over all ε without scoring: one gradient here, one per ε there."""
        import functools

        import jax
        import jax.numpy as jnp

        from benchmarks.peers.torchattacks import fgsm_sweep
        from benchmarks.peers.victim import PeerVictim

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
            seconds, _ = timed(
                lambda: fgsm_sweep(PeerVictim(self.twin), self.x, self.y, work, size)
            )
            return len(self.x) / seconds

        our_turn()
        rates = take_turns({"ours": our_turn, "theirs": their_turn}, self.pairs)
        return ratios(rates["ours"], rates["theirs"])
