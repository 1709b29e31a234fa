"""Speech that a network learns in an epoch, as the corpus csv reads it."""

import csv
from pathlib import Path

import numpy as np
import soundfile


def write_tiny_corpus(root: Path) -> Path:
    """Two tones and noise in 48 files of 0.1 s at 8 kHz, speaker-disjoint parts in the CSV."""
    rng = np.random.default_rng(0)
    time = np.arange(800) / 8000
    rows = []
    for i in range(48):
        label = ("high", "low", "noise")[i % 3]
        frequency = {"high": 900, "low": 150, "noise": 0}[label] * rng.uniform(0.9, 1.1)
        x = np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6))
        x = 0.3 * x + rng.normal(0, 0.1 if frequency else 0.3, 800)
        soundfile.write(root / f"{i:02d}.wav", x.clip(-1, 1), 8000)
        part = "train" if i < 30 else "val" if i < 36 else "test"
        rows.append([f"{i:02d}.wav", label, f"s{i // 6}", "female" if i % 2 else "male", part])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "speaker", "gender", "split"], *rows])
    return root
