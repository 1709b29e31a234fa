"""Emo-IIT, Romanian emotional speech by students, as Echim et al. use it (522 files).

    corpus = jaxser.corpora.load("emo_iit", "path/to/EMO-IIT")  # holds anger/B303fJa.wav

Folders say the emotion, file names the speaker.
"""

from functools import partial
from pathlib import Path, PurePosixPath

from jaxser.corpora.spec import CorpusSpec, LeftOut, left_out_by_name, read_by_name
from jaxser.corpora.table import Gender, Utterance

__all__ = ["SPEC"]

_LABELS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
_GENDERS: dict[str, Gender] = {"male": "male", "female": "female"}


def _speaker(stem: str) -> str:
    stem = stem.lower()
    # Several speakers share the prefix b511, and the fifth character tells them apart.
    return stem[:5] if stem.startswith("b511") else stem[:4]


def _parse(path: PurePosixPath) -> Utterance | LeftOut:
    emotion = path.parent.name.lower()
    if emotion not in (*_LABELS, "irritation"):
        return LeftOut(Path(path), "stray", "it is in no folder named after an emotion")
    if len(path.stem) < 5:
        return LeftOut(Path(path), "stray", "the name is too short to hold a speaker")
    return Utterance(
        id=f"{emotion}/{path.stem}",
        path=Path(path),
        label=emotion,
        speaker=_speaker(path.stem),
        gender=_GENDERS.get(path.parent.parent.name.lower(), "unknown"),
    )


def _recognises(folder: Path) -> bool:
    names = {path.name.lower() for path in folder.iterdir() if path.is_dir()}
    if names & set(_GENDERS):
        names = {
            path.name.lower()
            for gender in folder.iterdir()
            if gender.name.lower() in _GENDERS
            for path in gender.iterdir()
        }
    return len(names & set(_LABELS)) >= 2


SPEC = CorpusSpec(
    name="emo_iit",
    title="Emo-IIT",
    language="Romanian",
    labels=_LABELS,
    other_labels=("irritation",),
    read=partial(read_by_name, parse=_parse),
    left_out=partial(left_out_by_name, parse=_parse),
    recognises=_recognises,
    layout="anger/B303fJa.wav and so on, one folder per emotion, with or without male and female "
    "folders around them",
    sample_rate=16_000,
    channels=1,
    licence="on request",
    obtain="Emo-IIT is restricted: ask the authors of 'A new emotional corpus for the Romanian "
    "language' (DAS 2016) for it, and unpack it so that ROOT holds a folder per emotion.",
    quirks=(
        "the emotion is the folder, the speaker the first four characters of the name, in lower "
        "case; five where it starts with b511",
        "irritation is left out unless asked for by labels: 522 files of seven classes are left",
        "the gender is known only in the layout with male and female folders",
    ),
)
