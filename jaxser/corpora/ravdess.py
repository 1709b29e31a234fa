"""RAVDESS, the speech part in audio (Livingstone and Russo, PLoS ONE 2018).

    corpus = jaxser.corpora.load("ravdess", "path/to/ravdess")  # holds Actor_01 ... Actor_24

File names say everything; folders must agree with them.
"""

import re
from functools import partial
from pathlib import Path, PurePosixPath

from jaxser.corpora.spec import (
    CorpusSpec,
    Download,
    LeftOut,
    PartSplit,
    left_out_by_name,
    read_by_name,
)
from jaxser.corpora.table import Utterance

__all__ = ["SPEC"]

_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))


def _fault(match: re.Match[str]) -> str | None:
    modality, channel, emotion, intensity, statement, repetition, actor = match.groups()
    if (modality, channel) != ("03", "01"):
        return "not audio-only speech (03-01)"
    if emotion not in _EMOTIONS:
        return f"emotion {emotion} is not one of 01 to 08"
    if intensity not in ("01", "02") or (emotion, intensity) == ("01", "02"):
        return f"there is no intensity {intensity} of emotion {emotion}"
    if statement not in ("01", "02") or repetition not in ("01", "02"):
        return f"there is no statement {statement}, repetition {repetition}"
    return None if actor in _ACTORS else f"actor {actor} is not one of 01 to 24"


def _parse(path: PurePosixPath) -> Utterance | LeftOut:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return LeftOut(Path(path), "stray", "the name is not seven numbers of two digits")
    if (fault := _fault(match)) is not None:
        return LeftOut(Path(path), "stray", fault)
    emotion, actor = match[3], match[7]
    if path.parent.name != f"Actor_{actor}":
        return LeftOut(
            Path(path), "misplaced", f"folder {path.parent.name}, but the name says actor {actor}"
        )
    return Utterance(
        id=f"Actor_{actor}/{path.stem}",
        path=Path(path),
        label=_EMOTIONS[emotion],
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
    )


def _recognises(folder: Path) -> bool:
    return any((folder / f"Actor_{actor}").is_dir() for actor in _ACTORS)


_LABELS = tuple(sorted(_EMOTIONS.values()))

SPEC = CorpusSpec(
    name="ravdess",
    title="RAVDESS",
    language="English",
    labels=_LABELS,
    read=partial(read_by_name, parse=_parse),
    left_out=partial(left_out_by_name, parse=_parse),
    recognises=_recognises,
    layout="Actor_01/03-01-01-01-01-01-01.wav and so on, one folder per actor",
    sample_rate=48_000,
    channels=1,
    odd_channels={2: 5},
    official_counts={label: 96 if label == "neutral" else 192 for label in _LABELS},
    official_speakers=24,
    known_duplicates=(
        frozenset({"Actor_07/03-01-03-01-02-01-07", "Actor_07/03-01-03-01-02-02-07"}),
    ),
    standard_split=PartSplit(train=_ACTORS[:16], val=_ACTORS[16:20], test=_ACTORS[20:]),
    licence="CC BY-NC-SA 4.0",
    obtain="python -m jaxser.corpora download ravdess ROOT fetches it.",
    urls=("https://zenodo.org/records/1188976",),
    download=(
        # The MD5 that Zenodo shows beside the file.
        Download(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            digest="md5:bc696df654c87fed845eb13823edef8a",
        ),
    ),
    quirks=(
        "odd actors are male, even ones female; neutral has no strong intensity",
        "a file whose folder and name disagree about the actor is reported and left out",
        "mirrors often hold every actor twice: each file is read once, copies are reported",
        "03-01-03-01-02-01-07 and 03-01-03-01-02-02-07 hold identical audio in the release",
        "the standard split trains on actors 01-16, validates on 17-20, tests on 21-24",
    ),
)
