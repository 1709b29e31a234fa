"""What the files of a corpus turn out to be, whatever their folder is called.

    title, notes = describe_audio(spec, measured)
    # "EmoDB, first 2 s", ("audio is not the original EmoDB: 22,050 Hz, cut to 2 s; ...",)

A result must say so when the audio under a corpus' name is not that corpus' audio.
"""

import dataclasses
import hashlib
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from jaxser.corpora.spec import CorpusSpec
from jaxser.runtime.cores import available_cores
from jaxser.runtime.text import counted

__all__ = ["MeasuredFile", "describe_audio", "map_files", "stream_files"]

# Two lengths within this many seconds are the same: encoders round to whole samples or frames.
_SAME_LENGTH = 0.002

# Files per thread that may be ready before they are taken: bounds the memory.
_AHEAD = 8


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredFile:
    """Content and header of one file.

    Attributes:
      sha256: of its bytes.
      sample_rate, channels, frames: of its header; 0 for a damaged file.
      damage: None or half a sentence.
      beyond: samples outside [-1, 1], of all channels.
      peak: the largest magnitude among them, or 0.
    """

    sha256: str
    sample_rate: int
    channels: int
    frames: int
    damage: str | None = None
    beyond: int = 0
    peak: float = 0.0

    @classmethod
    def of(cls, data: bytes, samples: np.ndarray, sample_rate: int) -> "MeasuredFile":
        """What a sound file holds: its bytes and what they decode to, ``[frames, channels]``."""
        frames, channels = samples.shape
        magnitude = np.abs(samples)
        beyond = int((magnitude > 1).sum())
        peak = float(magnitude.max()) if beyond else 0.0
        return cls(_sha256(data), sample_rate, channels, frames, None, beyond, peak)

    @classmethod
    def of_damaged(cls, data: bytes, reason: str) -> "MeasuredFile":
        """A file that cannot be used, for ``reason``."""
        return cls(_sha256(data), 0, 0, 0, reason)

    @property
    def seconds(self) -> float:
        """Duration; 0 for a damaged file."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0

    @property
    def loudness(self) -> str:
        """Half a sentence on samples beyond full scale, or "" where there are none."""
        if not self.beyond:
            return ""
        count = self.frames * self.channels
        return f"{self.beyond:,} of {count:,} samples are beyond full scale (peak {self.peak:,.6g})"

    def shortness(self, shortest: float) -> str | None:
        """Half a sentence if a sound file lasts less than ``shortest`` seconds, or None."""
        if self.damage is not None or self.seconds >= shortest:
            return None
        return (
            f"it lasts {self.seconds:.3g} s ({counted(self.frames, 'sample')} at "
            f"{self.sample_rate:,} Hz), less than the shortest length of {shortest:g} s"
        )

    def judged(self, shortest: float) -> "MeasuredFile":
        """The same with too short a length as its damage."""
        reason = self.shortness(shortest)
        return self if reason is None else MeasuredFile(self.sha256, 0, 0, 0, reason)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cut_to(spec: CorpusSpec, measured: Sequence[MeasuredFile]) -> float | None:
    """The length in seconds that somebody cut the corpus to, or None.

    Most files are then equally long, and none as long as the longest of the release.
    """
    if spec.seconds is None or not measured:
        return None
    longest = max(file.seconds for file in measured)
    equal = sum(longest - file.seconds < _SAME_LENGTH for file in measured)
    return longest if longest < spec.seconds[1] - 0.01 and equal > len(measured) / 2 else None


def describe_audio(
    spec: CorpusSpec, measured: Iterable[MeasuredFile]
) -> tuple[str | None, tuple[str, ...]]:
    """What must be said of a corpus whose files are not as released.

    Returns:
      A title that tells it from the original, or None where it may keep its own, and notes.
    """
    files = [file for file in measured if file.damage is None]
    rates = Counter(file.sample_rate for file in files)
    wrong = len(files) - rates[spec.sample_rate] if spec.sample_rate else 0
    seconds = cut_to(spec, files)
    if seconds is None and wrong <= len(files) / 2:
        if not wrong:
            return None, ()
        where = f"{wrong} of {len(files)} files of {spec.title}"
        return None, (f"{where} are not at {spec.sample_rate:,} Hz",)
    rate = rates.most_common(1)[0][0]
    differs = [f"{rate:,} Hz"] if wrong else []
    title = f"{spec.title} at {rate:,} Hz"
    if seconds is not None:
        differs.append(f"cut to {seconds:.3g} s")
        title = f"{spec.title}, first {seconds:.3g} s"
    return title, (
        f"audio is not the original {spec.title}: {', '.join(differs)}; figures are '{title}'",
    )


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_files(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    progress: bool,
    description: str,
) -> list[Result]:
    """``[work(item) for item in items]`` in threads, with a progress bar on a terminal."""
    return list(
        stream_files(work, items, workers=workers, progress=progress, description=description)
    )


def stream_files(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    progress: bool,
    description: str,
) -> Iterator[Result]:
    """The results of ``work`` in order, made in threads a few items ahead of who takes them.

    Threads suffice: decoding, resampling and hashing all release the interpreter lock.
    """
    from tqdm import tqdm

    show = progress and sys.stderr.isatty()
    workers = workers or available_cores()
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in tqdm(items, desc=description, unit="file", disable=not show):
                ahead.append(pool.submit(work, item))
                if len(ahead) > _AHEAD * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            # After an error (a full disk) the rest need not be tried.
            pool.shutdown(cancel_futures=True)
