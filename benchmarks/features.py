"""Utterances per second of the front ends, beside librosa and torch.stft.

    python -m benchmarks.features
    python -m benchmarks.features --batch 64 --seconds 3 --out benchmarks/results/features.json

All sides turn the same noise into the same log-mel spectrogram (Facchinetti et al.'s: 261 x 128),
with as many threads each, taking turns in one run; the outputs are compared first. librosa is
measured on the batch as one array, which is the fastest for it, and one utterance at a time, as
most code calls it.
"""

import argparse
import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import hold_to_threads, rows_per_second, write_report
from jaxser.errors import report_errors

if TYPE_CHECKING:
    import numpy as np

RATE = 16_000
SETTINGS: dict[str, Any] = {"n_fft": 368, "hop_length": 184, "n_mels": 128}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Utterances per second of one side, one value per turn."""

    name: str
    utterances_per_s: list[float]
    apart: float  # largest difference to librosa in dB

    @property
    def median(self) -> float:
        return statistics.median(self.utterances_per_s)


def sides() -> dict[str, Callable[["np.ndarray"], Any]]:
    """The work of each side: from waveforms [batch, time] to a host array [batch, frames, mels]."""
    import jax
    import librosa
    import numpy as np
    import torch
    from librosa.filters import mel

    from jaxser.features import Spectrogram

    front_end = jax.jit(Spectrogram(kind="log_mel", sample_rate=RATE, **SETTINGS))
    gradient = jax.jit(jax.grad(lambda x: front_end(x).sum()))
    mels_of = mel(sr=RATE, n_fft=SETTINGS["n_fft"], n_mels=SETTINGS["n_mels"])
    filters = torch.from_numpy(mels_of)
    window = torch.hann_window(SETTINGS["n_fft"])

    def by_librosa(x: np.ndarray) -> np.ndarray:
        mels = librosa.feature.melspectrogram(y=x, sr=RATE, **SETTINGS)
        # top_db is the range of each utterance.
        return np.stack([librosa.power_to_db(each).T for each in mels])

    def one_at_a_time(x: np.ndarray) -> np.ndarray:
        each = [librosa.feature.melspectrogram(y=row, sr=RATE, **SETTINGS) for row in x]
        return np.stack([librosa.power_to_db(mels).T for mels in each])

    def by_torch(x: np.ndarray) -> np.ndarray:
        spectrum = torch.stft(
            torch.from_numpy(x),
            SETTINGS["n_fft"],
            SETTINGS["hop_length"],
            window=window,
            pad_mode="constant",
            return_complex=True,
        )
        mels = filters @ spectrum.abs().square()
        decibel = 10 * torch.log10(mels.clamp(min=1e-10))
        floor = decibel.amax(dim=(1, 2), keepdim=True) - 80
        return torch.maximum(decibel, floor).transpose(1, 2).numpy()

    return {
        "librosa": by_librosa,
        "librosa, one at a time": one_at_a_time,
        "torch.stft": by_torch,
        "jaxser": lambda x: np.asarray(front_end(x)),
        "jaxser, with input gradient": lambda x: np.asarray(gradient(x)),
    }


def measure(batch: int, seconds: float, turns: int) -> list[Measured]:
    """Take turns; the first, uncounted one compiles and compares."""
    import numpy as np

    work = sides()
    x = np.random.default_rng(0).normal(0, 0.1, (batch, round(seconds * RATE))).astype(np.float32)
    reference = work["librosa"](x)
    apart = {
        name: float("nan") if "gradient" in name else float(np.abs(run(x) - reference).max())
        for name, run in work.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns):
        for name, run in work.items():
            # Threads of the side before go on spinning for a while.
            time.sleep(0.3)
            rates[name].append(rows_per_second(run, x))
    return [Measured(name, rates[name], apart[name]) for name in work]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--batch", type=int, default=64, help="utterances at a time")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an utterance")
    parser.add_argument("--turns", type=int, default=7, help="counted turns of each side")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    busy = hold_to_threads(args.threads)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)
        measured = measure(args.batch, args.seconds, args.turns)
    base = measured[0]
    print(f"log-mel {SETTINGS} of {args.batch} x {args.seconds:g} s")
    print(f"{'':28} utterances/s  x librosa (min–max)   apart from librosa")
    for side in measured:
        ratios = [a / b for a, b in zip(side.utterances_per_s, base.utterances_per_s, strict=True)]
        print(
            f"{side.name:28} {side.median:12.0f}  {statistics.median(ratios):6.2f} "
            f"({min(ratios):.2f}–{max(ratios):.2f})  {side.apart:12.1e} dB"
        )
    if args.out is not None:
        write_report(
            args.out,
            busy,
            args.threads,
            settings=SETTINGS,
            batch=args.batch,
            seconds=args.seconds,
            measured=[dataclasses.asdict(side) for side in measured],
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
