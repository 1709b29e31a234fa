"""IEMOCAP, English dyads in five sessions (Busso et al., Language Resources and Evaluation 2008).

    corpus = jaxser.corpora.load("iemocap", "path/to/IEMOCAP_full_release")
    corpus = jaxser.corpora.assign_split(corpus, "iemocap_sessions")

The four classes of the literature are kept by default, with excitement merged into happiness:
5,531 of the 10,039 turns. Others can be asked for by ``labels``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from jaxser.corpora.spec import CorpusSpec, LeftOut, PartSplit, audio_files
from jaxser.corpora.table import Utterance
from jaxser.runtime.errors import InputError
from jaxser.runtime.regular_files import read_regular

__all__ = ["SPEC"]

_EMOTIONS = {
    "ang": "anger",
    "exc": "happiness",
    "hap": "happiness",
    "neu": "neutral",
    "sad": "sadness",
    "dis": "disgust",
    "fea": "fear",
    "fru": "frustration",
    "oth": "other",
    "sur": "surprise",
    "xxx": "undecided",
}
_LABELS = ("anger", "happiness", "neutral", "sadness")
_SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
_TURN = re.compile(r"\[[^\]]*\]\t(?P<id>[^\t]+)\t(?P<label>[^\t]+)\t\[[^\]]*\]\s*")
_TURN_ID = re.compile(r"(?P<dialogue>Ses0(?P<session>[1-5])[FM]_.+)_(?P<letter>[FM])[^_]*")


def _evaluation_files(root: Path) -> Iterator[tuple[str, Path]]:
    for session in _SESSIONS:
        # Sub-folders hold the single annotators' ballots; "._x" files are left by macOS.
        for path in sorted((root / session / "dialog" / "EmoEvaluation").glob("*.txt")):
            if not path.name.startswith("."):
                yield session, path


def _turns(session: str, path: Path, root: Path) -> Iterator[Utterance]:
    lines = read_regular(path).decode("utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        # Lines such as "C-E1:" and "A-E3:" under a turn are single annotators.
        if not line.startswith("[") or (turn := _TURN.fullmatch(line)) is None:
            continue
        where = f"{path}, line {number}"
        match = _TURN_ID.fullmatch(turn["id"])
        if match is None or f"Session{match['session']}" != session:
            raise InputError(f"{where}: {turn['id']!r} is not the name of a turn of {session}.")
        if turn["label"] not in _EMOTIONS:
            raise InputError(
                f"{where}: label {turn['label']!r} is not one of {' '.join(_EMOTIONS)}."
            )
        wav = Path(session, "sentences", "wav", match["dialogue"], turn["id"])
        letter = match["letter"]
        yield Utterance(
            id=wav.as_posix(),
            path=root / f"{wav}.wav",
            label=_EMOTIONS[turn["label"]],
            # Who speaks is the last letter; the one in Ses01F says who wore the markers.
            speaker=f"Ses0{match['session']}{letter}",
            gender="female" if letter == "F" else "male",
            group=session,
        )


def _read(root: Path) -> list[Utterance]:
    utterances: dict[str, Utterance] = {}
    for session, path in _evaluation_files(root):
        for utterance in _turns(session, path, root):
            if utterances.setdefault(utterance.id, utterance) != utterance:
                raise InputError(f"{path}: turn {utterance.id} has two different labels.")
    return list(utterances.values())


def _left_out(root: Path) -> list[LeftOut]:
    known = {utterance.path for utterance in _read(root)}
    return [
        LeftOut(path, "stray", "no evaluation file names this turn")
        for session in _SESSIONS
        if (root / session / "sentences" / "wav").is_dir()
        for path in audio_files(root / session / "sentences" / "wav")
        if path not in known
    ]


def _recognises(folder: Path) -> bool:
    return any((folder / s / "dialog" / "EmoEvaluation").is_dir() for s in _SESSIONS)


SPEC = CorpusSpec(
    name="iemocap",
    title="IEMOCAP",
    language="English",
    labels=_LABELS,
    other_labels=tuple(sorted(set(_EMOTIONS.values()) - set(_LABELS))),
    read=_read,
    left_out=_left_out,
    recognises=_recognises,
    layout="Session1 to Session5, with dialog/EmoEvaluation and sentences/wav in each",
    sample_rate=16_000,
    channels=1,
    official_counts={"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084},
    official_speakers=10,
    companions=("*",),
    standard_split=PartSplit(
        train=("Session1", "Session2", "Session5"), val=("Session4",), test=("Session3",),
        by="group",
    ),
    licence="restricted, research use",
    obtain="IEMOCAP is restricted: fill in the release form at https://sail.usc.edu/iemocap/ and "
    "unpack what you are sent so that ROOT holds Session1 to Session5.",
    urls=("https://sail.usc.edu/iemocap/",),
    quirks=(
        "labels are the turn lines of dialog/EmoEvaluation; the annotators' lines, sub-folders and "
        "._ files there are passed over",
        "the speaker is the letter in _F000 or _M000, not the one in Ses01F: ten speakers",
        "excitement is merged into happiness; other classes can be asked for by labels",
        "the standard split is that of STAA-Net: sessions 1 2 5, 4, 3 = 3,349, 1,031, 1,151 turns",
    ),
)  # fmt: skip
