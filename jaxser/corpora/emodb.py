"""EmoDB, the Berlin database of emotional speech (Burkhardt et al., Interspeech 2005).

    corpus = jaxser.corpora.load("emodb", "path/to/emodb")      # holds wav/03a01Fa.wav

File names say everything; the label file erkennung.txt of the release is not needed.
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

_MALE = ("03", "10", "11", "12", "15")
_FEMALE = ("08", "09", "13", "14", "16")
_SENTENCES = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
_EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
_NAME = re.compile(rf"({'|'.join(_MALE + _FEMALE)})({'|'.join(_SENTENCES)})([A-Z])([a-z]?)")


def _parse(path: PurePosixPath) -> Utterance | LeftOut:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return LeftOut(Path(path), "stray", "the name is not speaker, sentence, emotion, take")
    speaker, _, code, _ = match.groups()
    if code not in _EMOTIONS:
        return LeftOut(Path(path), "stray", f"emotion {code} is not one of {''.join(_EMOTIONS)}")
    return Utterance(
        id=f"wav/{path.stem}",
        path=Path(path),
        label=_EMOTIONS[code],
        speaker=speaker,
        gender="male" if speaker in _MALE else "female",
    )


def _recognises(folder: Path) -> bool:
    wav = folder / "wav"
    return any(_NAME.fullmatch(p.stem) for p in (wav if wav.is_dir() else folder).glob("*.wav"))


SPEC = CorpusSpec(
    name="emodb",
    title="EmoDB",
    language="German",
    labels=tuple(_EMOTIONS.values()),
    read=partial(read_by_name, parse=_parse),
    left_out=partial(left_out_by_name, parse=_parse),
    recognises=_recognises,
    layout="wav/03a01Fa.wav and so on",
    sample_rate=16_000,
    channels=1,
    seconds=(1.23, 8.98),
    official_counts={
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    },
    official_speakers=10,
    companions=("*.lablaut", "*.labsilb", "db*.parquet", "db*.pkl", "db*.yaml"),
    standard_split=PartSplit(
        train=("03", "08", "09", "10", "11", "13"), test=("12", "14", "15", "16")
    ),
    licence="free download; CC0 in audEERING's registry",
    obtain="python -m jaxser.corpora download emodb ROOT fetches it.",
    urls=("http://emodb.bilderbar.info/",),
    download=(Download("http://emodb.bilderbar.info/download/download.zip", digest=None),),
    quirks=(
        "the emotion is the letter at index 5 of the file name; erkennung.txt is not read",
        "the standard split has three speakers of each gender in training, two in test, no val",
        "shared copies are often cut or resampled: check and prepare measure the files, and say so",
    ),
)
