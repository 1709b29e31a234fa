"""The corpus on disk: WAV files, a manifest, and the settings that make the same files again.

generate(Path("data/other"), seed=1, speakers=12, seconds=2.0)
utterances = read(Path("data/synthetic"))                   # made on first use
"""

import contextlib
import csv
import dataclasses
import errno
import json
import secrets
import shutil
import wave
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from jaxser.corpora import csv_table
from jaxser.corpora.spec import CorpusSpec, LeftOut, audio_files
from jaxser.corpora.synthetic.emotions import LABELS
from jaxser.corpora.synthetic.filters import SAMPLE_RATE
from jaxser.corpora.synthetic.randomness import VERSION
from jaxser.corpora.synthetic.speakers import make_speakers
from jaxser.corpora.synthetic.utterance import synthesize
from jaxser.corpora.table import Utterance
from jaxser.runtime.errors import InputError
from jaxser.runtime.regular_files import read_regular

__all__ = ["SPEC", "generate", "read"]

_SETTINGS_FILE = "synthetic.json"
_MANIFEST_FILE = "manifest.csv"
_README_FILE = "README.txt"
_WAV_FOLDER = "synthetic_wav"
_WAV_HEADER_BYTES = 44
_NOTE = "synthetic speech: figures on it say nothing about human emotion"
_README = """\
This folder holds SYNTHETIC speech, made from code alone by jaxser.corpora.synthetic.
Nobody spoke it and nobody felt it: figures on it say nothing about human emotion.
manifest.csv names the emotion, speaker, gender and split of every file;
synthetic.json holds the settings that make the same files again.
"""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """All that the bytes of a corpus depend on."""

    version: int
    seed: int
    speakers: int
    utterances_per_speaker_and_emotion: int
    seconds: float

    def __post_init__(self) -> None:
        if self.speakers < 6 or self.speakers % 2:
            raise InputError(
                f"a synthetic corpus of {self.speakers} speakers cannot be split: give an even "
                "number from 6 up, so that train, val and test each get a woman and a man."
            )
        if self.utterances_per_speaker_and_emotion < 1:
            raise InputError(
                "a synthetic corpus needs 1 or more utterances per speaker and emotion, got "
                f"{self.utterances_per_speaker_and_emotion}."
            )
        if not 1 <= self.seconds <= 30:
            raise InputError(
                f"synthetic utterances last 1 to 30 seconds, so {self.seconds} cannot be made."
            )
        if self.seed < 0:
            raise InputError(f"the seed of a synthetic corpus is 0 or more, got {self.seed}.")

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)


def _write_wav(path: Path, samples: Int16[np.ndarray, " samples"]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def _write_corpus(folder: Path, settings: _Settings) -> None:
    (folder / _WAV_FOLDER).mkdir()
    rows = []
    for speaker in make_speakers(settings.seed, settings.speakers):
        for label in LABELS:
            for take in range(settings.utterances_per_speaker_and_emotion):
                name = f"syn_{speaker.name}_{speaker.gender[0]}_{label}_{take:02d}.wav"
                file = f"{_WAV_FOLDER}/{name}"
                samples = synthesize(settings.seed, speaker, label, take, settings.seconds)
                _write_wav(folder / file, samples)
                rows.append((file, label, speaker.name, speaker.gender, speaker.split))
    with (folder / _MANIFEST_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "label", "speaker", "gender", "split"))
        writer.writerows(rows)
    (folder / _README_FILE).write_text(_README, encoding="utf-8")
    settings_text = json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
    (folder / _SETTINGS_FILE).write_text(settings_text, encoding="utf-8")


def generate(
    root: Path | str,
    *,
    seed: int = 0,
    speakers: int = 20,
    utterances_per_speaker_and_emotion: int = 10,
    seconds: float = 1.25,
) -> None:
    """Make a synthetic corpus at ``root``: WAV files (16 kHz, 16 bits, mono) and a manifest.

    The same settings give the same files. Everything is written to a temporary folder beside
    ``root`` first, so that ``root`` is whole or absent. What was made before with the same
    settings is kept as it is.

    Args:
      root: a folder that is absent or empty, or holds this very corpus.
      seed: of all voices, sentences and sounds.
      speakers: an even number from 6 up, women and men in turn; about a fifth of the pairs go to
        val and a fifth to test.
      utterances_per_speaker_and_emotion: how often a speaker says something with each emotion.
      seconds: length of every file.

    Raises:
      InputError: ``root`` holds something else, cannot be written, or a setting is out of range.
    """
    settings = _Settings(VERSION, seed, speakers, utterances_per_speaker_and_emotion, seconds)
    # Links are followed, so that the temporary folder lies on the same disk as the final one.
    root = Path(root).resolve()
    if _is_kept(root, settings):
        return
    temporary = root.with_name(f".{root.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        _write_corpus(temporary, settings)
        with contextlib.suppress(FileNotFoundError):
            root.rmdir()
        temporary.rename(root)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and _is_kept(root, settings):
            return  # another process was quicker
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"synthetic speech cannot be put at {root} ({error.strerror}); give another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_kept(root: Path, settings: _Settings) -> bool:
    """Whether ``root`` holds the corpus of these settings already."""
    found = _find(root)
    if found is not None and found != settings:
        raise InputError(
            f"{root} holds synthetic speech of other settings ({found}); give another folder."
        )
    return found is not None


def _find(root: Path) -> _Settings | None:
    """Settings of the whole synthetic corpus at ``root``; None where there is nothing yet.

    Raises:
      InputError: there is something else, or only a part.
    """
    if not root.exists():
        return None
    if not root.is_dir():
        raise InputError(f"{root} is a file; give a folder for synthetic speech.")
    if not any(root.iterdir()):
        return None
    path = root / _SETTINGS_FILE
    if not path.is_file():
        raise InputError(
            f"{root} holds files that are not synthetic speech (there is no {_SETTINGS_FILE}); "
            "give an empty folder or one that does not exist."
        )
    try:
        settings = _Settings(**json.loads(read_regular(path)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged; delete {root}, and it is made again.") from error
    if settings.version != VERSION:
        raise InputError(
            f"{root} was made by version {settings.version} of the generator, and this is version "
            f"{VERSION}; delete the folder, and it is made again."
        )
    size = _WAV_HEADER_BYTES + 2 * settings.samples
    whole = [u for u in _read_manifest(root) if _size(u.path) == size]
    expected = settings.speakers * len(LABELS) * settings.utterances_per_speaker_and_emotion
    if len(whole) != expected:
        raise InputError(
            f"{root} holds {len(whole)} of {expected} files of synthetic speech, the others are "
            "missing or cut short; delete the folder, and it is made again."
        )
    return settings


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_manifest(root: Path) -> list[Utterance]:
    return csv_table.SPEC.read(root / _MANIFEST_FILE)


def read(root: Path | str, *, seed: int | None = None) -> list[Utterance]:
    """The utterances of the synthetic corpus at ``root``, which is made if it is not there.

    Args:
      root: a folder that is absent or empty, or holds a synthetic corpus of any settings.
      seed: of a corpus that must be made (0 by default); one that is there must have it.

    Raises:
      InputError: ``root`` holds something else, a part of a corpus, or one of another seed.
    """
    root = Path(root)
    found = _find(root)
    if found is None:
        generate(root, seed=seed or 0)
    elif seed is not None and seed != found.seed:
        raise InputError(
            f"{root} holds synthetic speech of seed {found.seed}, not {seed}; give another folder."
        )
    return _read_manifest(root)


def _left_out(root: Path) -> list[LeftOut]:
    known = {utterance.path for utterance in _read_manifest(root)}
    return [
        LeftOut(path, "stray", f"{_MANIFEST_FILE} does not name it")
        for path in audio_files(root)
        if path not in known
    ]


SPEC = CorpusSpec(
    name="synthetic",
    title="synthetic speech",
    language="none",
    labels=LABELS,
    read=read,
    left_out=_left_out,
    layout=f"{_MANIFEST_FILE}, {_SETTINGS_FILE} and {_WAV_FOLDER}/syn_s01_f_anger_00.wav and so on",
    options=("seed",),
    sample_rate=SAMPLE_RATE,
    channels=1,
    companions=(_MANIFEST_FILE, _SETTINGS_FILE, _README_FILE),
    standard_split="given",
    licence="made from code, free",
    obtain="Synthetic speech is made where it is first asked for.",
    notes=(_NOTE,),
    quirks=(
        "nobody spoke it: an emotion is a setting of prosody and voice quality",
        "all speakers say the same nonsense, so that what is said tells no emotion",
    ),
    synthetic=True,
)
