"""DEMoS, Italian elicited emotions (Parada-Cabaleiro et al., Language Resources and Evaluation).

    corpus = jaxser.corpora.load("demos", "path/to/wav_DEMoS")  # holds DEMOS and NEU

File names say everything; neutral is left out unless ``labels`` asks for it.
"""

import re
from functools import partial
from pathlib import Path, PurePosixPath

from jaxser.corpora.spec import CorpusSpec, LeftOut, left_out_by_name, read_by_name
from jaxser.corpora.table import Utterance

__all__ = ["SPEC"]

_EMOTIONS = {
    "rab": "anger",
    "dis": "disgust",
    "pau": "fear",
    "col": "guilt",
    "gio": "happiness",
    "tri": "sadness",
    "sor": "surprise",
    "neu": "neutral",
}
# Neutral files have no NP_ or PR_ in front, so the name is read from its right end.
_NAME = re.compile(r"(?:(NP|PR)_)?([fm])_(\d\d?)_([a-z]{3})\w*")
_SPEAKERS = frozenset(range(1, 70)) - {35}


def _parse(path: PurePosixPath) -> Utterance | LeftOut:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return LeftOut(Path(path), "stray", "the name is not gender_speaker_emotion")
    selection, gender, speaker, code = match.groups()
    if code not in _EMOTIONS:
        return LeftOut(Path(path), "stray", f"emotion {code} is not one of {' '.join(_EMOTIONS)}")
    if int(speaker) not in _SPEAKERS:
        return LeftOut(Path(path), "stray", f"there is no speaker {speaker}")
    return Utterance(
        id=f"{'NEU' if code == 'neu' else 'DEMOS'}/{path.stem}",
        path=Path(path),
        label=_EMOTIONS[code],
        speaker=f"{int(speaker):02d}",
        gender="female" if gender == "f" else "male",
        group=selection or "",
    )


def _recognises(folder: Path) -> bool:
    return any(
        _NAME.fullmatch(path.stem)
        for place in (folder / "DEMOS", folder / "NEU", folder)
        for path in place.glob("*_*_*.wav")
    )


SPEC = CorpusSpec(
    name="demos",
    title="DEMoS",
    language="Italian",
    labels=("anger", "disgust", "fear", "guilt", "happiness", "sadness", "surprise"),
    other_labels=("neutral",),
    read=partial(read_by_name, parse=_parse),
    left_out=partial(left_out_by_name, parse=_parse),
    recognises=_recognises,
    layout="DEMOS/PR_f_23_tri00a.wav and NEU/m_34_neu03b.wav and so on",
    channels=1,
    official_counts={
        "anger": 1477,
        "disgust": 1678,
        "fear": 1156,
        "guilt": 1129,
        "happiness": 1395,
        "sadness": 1530,
        "surprise": 1000,
        "neutral": 332,
    },
    official_speakers=68,
    standard_split="demos_40_30_30",
    licence="restricted, licence agreement",
    obtain="DEMoS is restricted: send the signed licence agreement as "
    "https://zenodo.org/records/2544829 describes, and unpack what you are sent so that ROOT holds "
    "DEMOS and NEU.",
    urls=("https://zenodo.org/records/2544829",),
    quirks=(
        "neutral files have no prefix, so names are read from the right",
        "speakers are numbered 01 to 69 without 35: 23 female, 45 male",
        "neutral is left out unless asked for by labels, as STAA-Net does",
        "the standard split is speaker-independent, 40/30/30; the published one was not released",
    ),
)
