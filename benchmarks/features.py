"""Utterances per second of the front ends, beside librosa and torch.stft.

    python -m benchmarks.features
    python -m benchmarks.features --turns 11 --out benchmarks/results/features.json

All sides turn the same noise into the same spectrogram, with as many threads each, taking turns in
one run; the outputs are compared first. The frames of all kinds but the constant-Q transform, and
the mel bands, are Facchinetti et al.'s (261 x 128). librosa is measured on the batch as one array,
which is the fastest for it, and one utterance at a time, as most code calls it. torch has no mel
filters and no constant-Q transform: it is given librosa's filters.
"""

import dataclasses
import functools
import statistics
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.command import add_threads_and_out, add_turns, command_parser, write_report
from benchmarks.machine import hold_to_threads
from benchmarks.turns import ratios, rows_per_second, spread, take_turns
from jaxser.runtime.errors import report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.speech.features import Kind

RATE = 16_000
FRAMES: dict[str, Any] = {"n_fft": 368, "hop_length": 184}
MELS: dict[str, Any] = {**FRAMES, "n_mels": 128}
# librosa halves the rate up to six times, so that many times must two divide the hop.
CONSTANT_Q: dict[str, Any] = {"hop_length": 192, "fmin": 32.703, "n_bins": 84}
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {**FRAMES, "db": True},
    "mel": MELS,
    "log_mel": MELS,
    "mfcc": {**MELS, "n_mfcc": 20},
    "cqt": {**CONSTANT_Q, "ref": "max"},
}

# From waveforms [batch, time] to a host array [batch, frames, bins].
Run = Callable[["np.ndarray"], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One side of one kind; a rate per turn."""

    kind: str
    name: str
    utterances_per_s: list[float]
    apart: float  # largest difference to librosa, as a share of its largest number

    @property
    def median(self) -> float:
        return statistics.median(self.utterances_per_s)


def librosa_sides(kind: str) -> dict[str, Run]:
    """On the batch as one array, and one utterance at a time."""
    import librosa
    import numpy as np

    def spectrogram(x: "np.ndarray") -> "np.ndarray":
        if kind == "linear":
            return np.abs(librosa.stft(x, **FRAMES)) ** 2
        if kind == "cqt":
            return np.abs(librosa.cqt(x, sr=RATE, tuning=0, **CONSTANT_Q))
        return librosa.feature.melspectrogram(y=x, sr=RATE, **MELS)

    def scaled(values: "np.ndarray") -> "np.ndarray":
        if kind == "mel":
            return values.T
        if kind == "cqt":
            return librosa.amplitude_to_db(values, ref=np.max).T
        decibel = librosa.power_to_db(values)
        if kind == "mfcc":
            decibel = librosa.feature.mfcc(S=decibel, n_mfcc=SETTINGS["mfcc"]["n_mfcc"])
        return decibel.T

    return {
        # top_db is the range of each utterance.
        "librosa": lambda x: np.stack([scaled(each) for each in spectrogram(x)]),
        "librosa, one at a time": lambda x: np.stack([scaled(spectrogram(row)) for row in x]),
    }


def torch_side(kind: str) -> Run:
    """Of "linear", "mel" and "log_mel"."""
    import torch
    from librosa.filters import mel

    filters = torch.from_numpy(mel(sr=RATE, n_fft=FRAMES["n_fft"], n_mels=MELS["n_mels"]))
    window = torch.hann_window(FRAMES["n_fft"])

    def run(x: "np.ndarray") -> "np.ndarray":
        spectrum = torch.stft(
            torch.from_numpy(x),
            FRAMES["n_fft"],
            FRAMES["hop_length"],
            window=window,
            pad_mode="constant",
            return_complex=True,
        )
        values = spectrum.abs().square()
        if kind != "linear":
            values = filters @ values
        if kind != "mel":
            values = 10 * torch.log10(values.clamp(min=1e-10))
            values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - 80)
        return values.transpose(1, 2).numpy()

    return run


def jax_sides(kind: "Kind") -> dict[str, Run]:
    """The values, and their input gradient."""
    import jax
    import numpy as np

    from jaxser.speech.features import Spectrogram

    front_end = jax.jit(Spectrogram(kind=kind, sample_rate=RATE, **SETTINGS[kind]))
    gradient = jax.jit(jax.grad(lambda x: front_end(x).sum()))
    return {
        "jaxser": lambda x: np.asarray(front_end(x)),
        "jaxser, with input gradient": lambda x: np.asarray(gradient(x)),
    }


def measure(kind: "Kind", batch: int, seconds: float, turns: int) -> list[Measured]:
    """Take turns; the first, uncounted one compiles and compares."""
    import numpy as np

    work = librosa_sides(kind)
    if kind in ("linear", "mel", "log_mel"):
        work["torch.stft"] = torch_side(kind)
    work |= jax_sides(kind)
    x = np.random.default_rng(0).normal(0, 0.1, (batch, round(seconds * RATE))).astype(np.float32)
    reference = work["librosa"](x)
    apart = {
        name: float("nan") if "gradient" in name else _apart(run(x), reference, kind)
        for name, run in work.items()
    }

    def turn(run: Run) -> float:
        # Threads of the side before go on spinning for a while.
        time.sleep(0.3)
        return rows_per_second(run, x)

    rates = take_turns({name: functools.partial(turn, run) for name, run in work.items()}, turns)
    return [Measured(kind, name, rates[name], apart[name]) for name in work]


def _apart(values: "np.ndarray", reference: "np.ndarray", kind: str) -> float:
    import numpy as np

    if kind == "cqt":
        # As amplitudes: librosa's resampling moves what is next to nothing by many dB.
        values, reference = 10 ** (values / 20), 10 ** (reference / 20)
    return float(np.abs(values - reference).max() / np.abs(reference).max())


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("features", __doc__)
    parser.add_argument(
        "--kind", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="front ends to measure"
    )
    parser.add_argument("--batch", type=int, default=64, help="utterances at a time")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an utterance")
    add_turns(parser, 7, flag="--turns")
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    busy = hold_to_threads(args.threads)

    print(f"{args.batch} x {args.seconds:g} s, on {args.threads} threads")
    print(f"{'':8} {'':28} utterances/s  jaxser ÷ it (min–max)  apart from librosa")
    measured: list[Measured] = []
    for kind in args.kind:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)
            sides = measure(kind, args.batch, args.seconds, args.turns)
        ours = next(side.utterances_per_s for side in sides if side.name == "jaxser")
        for side in sides:
            ratio = spread(ratios(ours, side.utterances_per_s), width=6)
            print(f"{kind:8} {side.name:28} {side.median:12.0f}  {ratio}  {side.apart:18.1e}")
        measured += sides
    write_report(
        args.out,
        busy,
        args.threads,
        settings={kind: SETTINGS[kind] for kind in args.kind},
        batch=args.batch,
        seconds=args.seconds,
        measured=[dataclasses.asdict(side) for side in measured],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
