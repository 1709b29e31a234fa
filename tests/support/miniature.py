"""Small trees in the official layouts, filled with noise from code."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile


def noise(seed: str, frames: int = 1600, channels: int = 1) -> np.ndarray:
    """[frames, channels] float32, different for every seed."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    return rng.uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def write_noise(
    path: Path,
    *,
    frames: int | None = None,
    sample_rate: int = 16_000,
    channels: int = 1,
    subtype: str = "PCM_16",
    seed: str | None = None,
) -> Path:
    """A recording of 0.1 s whose content depends on its name unless ``seed`` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = noise(seed or path.name, frames or sample_rate // 10, channels)
    soundfile.write(path, x, sample_rate, subtype=subtype)
    return path


def write_all(root: Path, names: Iterable[str], **options) -> Path:
    for name in names:
        write_noise(root / name, **options)
    return root


def emodb(root: Path, speakers=("03", "08", "12", "14"), codes="WLEAFNT", **options) -> Path:
    names = [f"wav/{speaker}a01{code}a.wav" for speaker in speakers for code in codes]
    return write_all(root, names, **options)


def emovo(root: Path, **options) -> Path:
    codes = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    speakers = ("f1", "f2", "f3", "m1", "m2", "m3")
    options = {"sample_rate": 48_000, "channels": 2} | options
    return write_all(root, [f"{s}/{c}-{s}-b1.wav" for s in speakers for c in codes], **options)


def ravdess(root: Path, actors=range(1, 25), **options) -> Path:
    options = {"sample_rate": 48_000} | options
    return write_all(
        root,
        [f"Actor_{a:02d}/03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in actors for e in range(1, 9)],
        **options,
    )


# Turns of each class in each session of the release; "oth" stands for all the others.
IEMOCAP_TURNS = {
    "Session1": {"ang": 229, "exc": 143, "hap": 135, "neu": 384, "sad": 194, "oth": 734},
    "Session2": {"ang": 137, "exc": 210, "hap": 117, "neu": 362, "sad": 197, "oth": 788},
    "Session3": {"ang": 240, "exc": 151, "hap": 135, "neu": 320, "sad": 305, "oth": 985},
    "Session4": {"ang": 327, "exc": 238, "hap": 65, "neu": 258, "sad": 143, "oth": 1072},
    "Session5": {"ang": 170, "exc": 299, "hap": 143, "neu": 384, "sad": 245, "oth": 929},
}


def iemocap(root: Path, turns=None, with_audio=False) -> Path:
    """Evaluation files as in the release: turn, annotators' lines, an empty line."""
    for session, counts in (turns or IEMOCAP_TURNS).items():
        number = session[-1]
        folder = root / session / "dialog" / "EmoEvaluation"
        folder.mkdir(parents=True)
        labels = [label for label, count in counts.items() for _ in range(count)]
        # The two dialogues differ in who wears the markers, and both people speak in both.
        for place, wearer in enumerate("FM"):
            dialogue = f"Ses0{number}{wearer}_impro01"
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for index, label in enumerate(labels[place::2]):
                turn = f"{dialogue}_{'FM'[index % 2]}{index:03d}"
                lines += [
                    f"[{index}.2901 - {index}.9357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]",
                    "C-E2:\tNeutral;\t()",
                    "C-E1:\tNeutral;\t()",
                    "A-E3:\tval 3; act 2; dom  2;\t()",
                    "",
                ]
                if with_audio:
                    write_noise(root / session / "sentences" / "wav" / dialogue / f"{turn}.wav")
            (folder / f"{dialogue}.txt").write_text("\n".join(lines))
        # What the release also holds there, and a loader must pass over.
        (folder / f"._Ses0{number}F_impro01.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
        (folder / "Categorical").mkdir()
        (folder / "Categorical" / f"Ses0{number}F_impro01_e1_cat.txt").write_text(
            f"Ses0{number}F_impro01_F000 :Neutral state; ()\n"
        )
    return root
