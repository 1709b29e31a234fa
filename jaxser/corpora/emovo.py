"""EMOVO, Italian emotional speech by six actors (Costantini et al., LREC 2014).

    corpus = jaxser.corpora.load("emovo", "path/to/emovo")      # holds f1/dis-f1-b1.wav

File names say everything; folders must agree with them.
"""

import re
from functools import partial
from pathlib import Path, PurePosixPath

from jaxser.corpora.spec import CorpusSpec, LeftOut, PartSplit, left_out_by_name, read_by_name
from jaxser.corpora.table import Utterance

__all__ = ["SPEC"]

_EMOTIONS = {
    "rab": "anger",
    "dis": "disgust",
    "pau": "fear",
    "gio": "happiness",
    "neu": "neutral",
    "tri": "sadness",
    "sor": "surprise",
}
_SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
_NAME = re.compile(r"([a-z]{3})-([fm][1-3])-(b[1-3]|l[1-4]|n[1-5]|d[12])")


def _parse(path: PurePosixPath) -> Utterance | LeftOut:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return LeftOut(Path(path), "stray", "the name is not emotion-speaker-sentence")
    code, speaker, _ = match.groups()
    if code not in _EMOTIONS:
        return LeftOut(Path(path), "stray", f"emotion {code} is not one of {' '.join(_EMOTIONS)}")
    if path.parent.name != speaker:
        return LeftOut(
            Path(path), "misplaced", f"folder {path.parent.name}, but the name says {speaker}"
        )
    return Utterance(
        id=f"{speaker}/{path.stem}",
        path=Path(path),
        label=_EMOTIONS[code],
        speaker=speaker,
        gender="female" if speaker[0] == "f" else "male",
    )


def _recognises(folder: Path) -> bool:
    return any(
        _NAME.fullmatch(path.stem)
        for speaker in _SPEAKERS
        for path in (folder / speaker).glob("*.wav")
    )


SPEC = CorpusSpec(
    name="emovo",
    title="EMOVO",
    language="Italian",
    labels=tuple(_EMOTIONS.values()),
    read=partial(read_by_name, parse=_parse),
    left_out=partial(left_out_by_name, parse=_parse),
    recognises=_recognises,
    layout="f1/dis-f1-b1.wav and so on, one folder per speaker",
    sample_rate=48_000,
    channels=2,
    odd_channels={1: 1},
    official_counts=dict.fromkeys(_EMOTIONS.values(), 84),
    official_speakers=6,
    standard_split=PartSplit(train=("f1", "f2", "m1", "m2"), test=("f3", "m3")),
    licence="research use",
    obtain="ask for it at http://voice.fub.it/activities/corpora/emovo/index.html and unpack it so "
    "that ROOT holds the folders f1 f2 f3 m1 m2 m3; no stable direct address is known.",
    urls=(
        "http://voice.fub.it/activities/corpora/emovo/index.html",
        "https://aclanthology.org/L14-1478/",
    ),
    downmix_note="the two channels of EMOVO are spaced microphones, so their mean comb-filters the "
    "voice, and as nearly all of f1's neutral files have equal channels it can give the class away",
    quirks=(
        "the two channels are spaced microphones (16-27 samples apart): the left one is the "
        "default, the mean on request",
        "rab-f1-b1 is mono, and nearly all of f1's neutral files have two equal channels",
        "the standard split trains on f1 f2 m1 m2 and tests on f3 m3, no val",
    ),
)
