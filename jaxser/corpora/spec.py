"""What a corpus module declares: one frozen ``CorpusSpec`` named ``SPEC``.

    def parse(path: PurePosixPath) -> Utterance | LeftOut: ...
    SPEC = CorpusSpec(name="mine", title="Mine", labels=("anger", "neutral"), ...,
                      recognises=lambda folder: (folder / "wav").is_dir(),
                      read=partial(read_by_name, parse=parse),
                      left_out=partial(left_out_by_name, parse=parse))

A corpus whose file names say everything needs only ``parse``; one with label files brings its own
``read``. The line in ``jaxser.corpora._MODULES`` makes it known to every command.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal
from unicodedata import normalize

from jaxser.corpora.table import Utterance

__all__ = [
    "CorpusSpec",
    "Download",
    "LeftOut",
    "PartSplit",
    "audio_files",
    "left_out_by_name",
    "read_by_name",
    "walk_files",
]

AUDIO_SUFFIXES = frozenset({".wav", ".flac"})


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """An audio file under the corpus root that the table does not hold.

    Attributes:
      path: the file.
      kind: "stray" (no name of this corpus), "misplaced" (folder and name disagree) or "copied"
        (another file of the same name was read).
      reason: half a sentence.
    """

    path: Path
    kind: Literal["stray", "misplaced", "copied"]
    reason: str


@dataclasses.dataclass(frozen=True)
class PartSplit:
    """A fixed split by speaker or by group; no ``val`` means that it has none by design."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    val: tuple[str, ...] = ()
    by: Literal["speaker", "group"] = "speaker"


@dataclasses.dataclass(frozen=True)
class Download:
    """One archive that may be fetched freely.

    Attributes:
      url: where it is.
      digest: "md5:..." or "sha256:..." as published, or None where nobody published one: then
        the SHA-256 of the first fetch is recorded and later ones must match it.
      folder: sub-folder of the root to unpack into, or "".
    """

    url: str
    digest: str | None
    folder: str = ""


def _nothing(root: Path) -> list[LeftOut]:
    return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusSpec:
    """A corpus: what it officially holds, where it comes from and how it is read.

    Attributes:
      name: registry name.
      title: what tables call it.
      language: of the speech, or "none".
      labels: class names in index order; empty where the corpus itself brings them (CSV).
      read: ``read(root, **options)`` returns every labelled utterance, other labels than
        ``labels`` included: :func:`jaxser.corpora.load` keeps the classes asked for.
      left_out: ``left_out(root)`` lists the audio files that ``read`` does not return.
      recognises: whether a folder is laid out as this corpus, or None where ``read`` takes the
        root as it is.
      layout: that layout, in words for an error message.
      options: names that ``read`` takes beside the root.
      other_labels: classes that ``read`` may return and that are left out unless asked for.
      sample_rate: official, in Hz; None: not fixed.
      channels: official; None: not fixed.
      odd_channels: official exceptions, {channels: files}.
      seconds: official shortest and longest utterance, or None.
      official_counts: official utterances per class, for ``labels`` and ``other_labels``.
      official_speakers: how many speakers.
      known_duplicates: sets of ids that hold identical audio in the official release.
      companions: glob patterns of files beside the audio that belong to the release.
      standard_split: a PartSplit, or the name of a split.
      licence: in a few words.
      obtain: how to get it, a sentence.
      urls: official pages.
      download: what may be fetched freely.
      downmix_note: a remark that travels into results when channels are averaged, or "".
      notes: remarks that travel into every result.
      quirks: facts about the release that its reader handles.
      synthetic: True where the speech is made from code.
    """

    name: str
    title: str
    language: str
    labels: tuple[str, ...]
    read: Callable[..., list[Utterance]]
    left_out: Callable[[Path], list[LeftOut]] = _nothing
    recognises: Callable[[Path], bool] | None = None
    layout: str = ""
    options: tuple[str, ...] = ()
    other_labels: tuple[str, ...] = ()
    sample_rate: int | None = None
    channels: int | None = None
    odd_channels: Mapping[int, int] = dataclasses.field(default_factory=dict)
    seconds: tuple[float, float] | None = None
    official_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    official_speakers: int | None = None
    known_duplicates: tuple[frozenset[str], ...] = ()
    companions: tuple[str, ...] = ()
    standard_split: PartSplit | str = "speaker"
    licence: str = ""
    obtain: str = ""
    urls: tuple[str, ...] = ()
    download: tuple[Download, ...] = ()
    downmix_note: str = ""
    notes: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    synthetic: bool = False


Parse = Callable[[PurePosixPath], Utterance | LeftOut]


def walk_files(root: Path) -> Iterator[Path]:
    """All files under ``root``, shallow ones first, then by name.

    Links that lead nowhere, pipes and the like are among them: whoever reads them says that they
    cannot be read, where passing over them would make the corpus smaller in silence.

    Hidden files and folders are passed over, and so are the ``._x`` and ``__MACOSX`` entries
    that macOS leaves in archives. Links to folders are not followed.
    """
    level = [root]
    while level:
        deeper = []
        for folder in level:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda e: e.name):
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        deeper.append(Path(entry.path))
                    elif not _is_link_to_folder(entry):
                        yield Path(entry.path)
        level = deeper


def _is_link_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, or one through a folder that may not be entered.
        return False


def audio_files(root: Path) -> Iterator[Path]:
    """The audio files under ``root`` in the order of :func:`walk_files`."""
    return (path for path in walk_files(root) if path.suffix.lower() in AUDIO_SUFFIXES)


def _scan(root: Path, parse: Parse) -> tuple[list[Utterance], list[LeftOut]]:
    utterances: dict[str, Utterance] = {}
    left_out = []
    for path in audio_files(root):
        name = path.relative_to(root).as_posix()
        if any("\ud800" <= character <= "\udfff" for character in name):
            # What Python puts for bytes that are no text; no table can hold them.
            left_out.append(LeftOut(path, "stray", "its name is not UTF-8"))
            continue
        # Ids are the same wherever the corpus was unpacked: a Mac decomposes names.
        parsed = parse(PurePosixPath(normalize("NFC", name)))
        if isinstance(parsed, LeftOut):
            left_out.append(dataclasses.replace(parsed, path=path))
        elif (first := utterances.get(parsed.id)) is not None:
            reason = f"{first.path.relative_to(root).as_posix()} of the same name was read"
            left_out.append(LeftOut(path, "copied", reason))
        else:
            utterances[parsed.id] = dataclasses.replace(parsed, path=path)
    return list(utterances.values()), left_out


def read_by_name(root: Path, *, parse: Parse) -> list[Utterance]:
    """The utterances of a corpus whose file names say everything.

    Args:
      root: the corpus folder.
      parse: from a path relative to the root to an utterance (its ``path`` is filled in here), or
        to the reason for leaving the file out. Ids are those of the official layout, so that they
        do not change with the folder that a mirror puts around it; of two files with the same id
        the shallower one is read.
    """
    return _scan(root, parse)[0]


def left_out_by_name(root: Path, *, parse: Parse) -> list[LeftOut]:
    """The audio files that :func:`read_by_name` does not return."""
    return _scan(root, parse)[1]
