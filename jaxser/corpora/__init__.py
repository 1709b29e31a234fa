"""Corpora of emotional speech: tables of utterances, their splits, and their prepared audio.

    corpus = jaxser.corpora.load("emodb", "path/to/emodb")
    corpus = jaxser.corpora.assign_split(corpus, "standard")
    prepared = jaxser.corpora.prepare(corpus, AudioSettings(sample_rate=16_000, seconds=2.0))
    prepared.waveforms[0]                                       # [samples] float32
    x, y, ids, *_ = jaxser.corpora.load_split("emodb", "path/to/emodb", "test")   # in one call

To add a corpus, write one file with its ``SPEC`` (see ``jaxser.corpora.spec``) and name it below.
"""

import errno
import importlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.corpora.table import Corpus, Utterance
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.faces import face
from jaxser.runtime.text import counted

if TYPE_CHECKING:
    from jaxser.corpora.audio_settings import AudioSettings as AudioSettings
    from jaxser.corpora.loaded_split import LoadedSplit as LoadedSplit
    from jaxser.corpora.loaded_split import load_split as load_split
    from jaxser.corpora.preparation import Prepared as Prepared
    from jaxser.corpora.preparation import prepare as prepare
    from jaxser.corpora.spec import CorpusSpec
    from jaxser.corpora.splits import assign_split as assign_split
    from jaxser.corpora.splits import read_split as read_split
    from jaxser.corpora.splits import write_split as write_split

__all__ = [
    "AudioSettings",
    "Corpus",
    "LoadedSplit",
    "Prepared",
    "Utterance",
    "assign_split",
    "get_spec",
    "load",
    "load_split",
    "locate",
    "names",
    "prepare",
    "read_split",
    "write_split",
]

# What makes a path one that cannot be read; a full disk or the like is another matter.
_WRONG_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EINVAL)

_MODULES = {
    "emodb": "emodb",
    "emovo": "emovo",
    "ravdess": "ravdess",
    "iemocap": "iemocap",
    "demos": "demos",
    "emo_iit": "emo_iit",
    "csv": "csv_table",
    "synthetic": "synthetic",
}

# Imported on first use, so that "--help" need not wait for NumPy.
_FUNCTIONS = {
    "AudioSettings": "audio_settings",
    "LoadedSplit": "loaded_split",
    "load_split": "loaded_split",
    "Prepared": "preparation",
    "prepare": "preparation",
    "assign_split": "splits",
    "read_split": "splits",
    "write_split": "splits",
}

__getattr__, __dir__ = face(__name__, _FUNCTIONS)


def names() -> tuple[str, ...]:
    """Names of all corpora, as ``load`` and the command line take them.

    Examples:
      >>> import jaxser
      >>> jaxser.corpora.names()
      ('emodb', 'emovo', 'ravdess', 'iemocap', 'demos', 'emo_iit', 'csv', 'synthetic')
    """
    return tuple(_MODULES)


def get_spec(name: str) -> "CorpusSpec":
    """What a corpus officially holds and how it is read.

    Raises:
      UsageError: there is no corpus of that name.

    Examples:
      >>> import jaxser
      >>> spec = jaxser.corpora.get_spec("emodb")
      >>> spec.title, spec.language, len(spec.labels)
      ('EmoDB', 'German', 7)
    """
    if name not in _MODULES:
        raise UsageError(f"there is no corpus {name!r}; {nearest_name(name, _MODULES)}")
    spec: CorpusSpec = importlib.import_module(f"jaxser.corpora.{_MODULES[name]}").SPEC
    return spec


def load(
    name: str, root: Path | str, *, labels: tuple[str, ...] | None = None, **options: Any
) -> Corpus:
    """Read the table of a corpus; no audio is opened.

    Args:
      name: one of :func:`names`.
      root: the corpus folder, or a folder one or two levels above it. For "csv" the CSV file.
      labels: classes to keep, in index order; the corpus' own by default.
      **options: what the corpus' reader takes beside the root ("synthetic" takes a seed).

    Returns:
      The corpus, sorted by id; files left out and utterances missing from the official number
      are counted in its notes.

    Raises:
      InputError: the root is wrong, empty or laid out as something else, or a label is unknown.
      UsageError: there is no such corpus or option.

    Examples:
      Of a table of one's own:

      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> len(corpus.utterances), corpus.labels
      (12, ('anger', 'joy', 'sadness'))
    """
    spec = get_spec(name)
    if "\0" in str(root):
        raise InputError(f"no folder has a NUL character in its name, as {str(root)!r} has.")
    for option in options:
        if option not in spec.options:
            hint = ", ".join(spec.options) or "none"
            raise UsageError(f"corpus {name!r} takes no option {option!r}; its options: {hint}.")
    try:
        folder = locate(spec, Path(root).expanduser())
        everything = spec.read(folder, **options)
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read; ask its owner.") from error
    except OSError as error:
        if error.errno not in _WRONG_PATH:
            raise
        raise InputError(f"{error.filename or root} cannot be read ({error.strerror}).") from error
    kept = _choose_labels(spec, folder, labels, everything)
    utterances = sorted((u for u in everything if u.label in kept), key=lambda u: u.id)
    if not utterances:
        raise InputError(f"{folder} holds no utterance of {_listed(kept)}.")
    return Corpus(
        name=name,
        title=spec.title if spec.labels else folder.resolve().stem,
        language=spec.language,
        labels=kept,
        root=folder,
        utterances=tuple(utterances),
        synthetic=spec.synthetic,
        notes=spec.notes + _notes(spec, folder, kept, len(utterances)),
    )


def _choose_labels(
    spec: "CorpusSpec",
    folder: Path,
    labels: tuple[str, ...] | None,
    utterances: list[Utterance],
) -> tuple[str, ...]:
    if labels is None and spec.labels:
        return spec.labels
    known = (*spec.labels, *spec.other_labels) or tuple(sorted({u.label for u in utterances}))
    chosen = known if labels is None else tuple(labels)
    for label in chosen:
        if label not in known:
            raise InputError(f"{spec.title} has no label {label!r}; {nearest_name(label, known)}")
    if len(set(chosen)) < max(2, len(chosen)):
        source = folder if labels is None else "corpus.labels"
        raise InputError(
            f"at least two different labels are needed, but {source} has only {_listed(chosen)}."
        )
    return chosen


def _listed(labels: tuple[str, ...]) -> str:
    """Labels for a message, cut where they are long or many."""
    text = ", ".join(labels)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _notes(
    spec: "CorpusSpec", folder: Path, labels: tuple[str, ...], count: int
) -> tuple[str, ...]:
    notes = []
    official = sum(spec.official_counts.get(label, 0) for label in labels)
    if set(labels) <= set(spec.official_counts) and count != official:
        notes.append(f"{count:,} of the {official:,} utterances of {spec.title}")
    counts = Counter(file.kind for file in spec.left_out(folder))
    for kind, number in sorted(counts.items()):
        notes.append(f"{counted(number, f'{kind} file')} left out of {spec.title}")
    return tuple(notes)


def locate(spec: "CorpusSpec", root: Path) -> Path:
    """The folder at ``root``, or one or two levels under it, that is laid out as ``spec`` says.

    Raises:
      InputError: there is none, there are several, or ``root`` is no folder or is empty.

    Examples:
      >>> from pathlib import Path
      >>> import jaxser
      >>> Path("downloads/german/wav").mkdir(parents=True, exist_ok=True)
      >>> Path("downloads/german/wav/03a01Wa.wav").touch()
      >>> jaxser.corpora.locate(jaxser.corpora.get_spec("emodb"), Path("downloads")).as_posix()
      'downloads/german'
    """
    if spec.recognises is None:
        return root
    if not root.exists():
        raise InputError(f"there is no folder {root}; give the folder that holds {spec.title}.")
    if not root.is_dir():
        raise InputError(f"{root} is a file; give the folder that holds {spec.title}.")
    level = [root]
    for _ in range(3):
        found = [folder for folder in level if spec.recognises(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(str(folder) for folder in found[:2])
            raise InputError(f"{root} holds {spec.title} more than once ({both}); give one folder.")
        level = [
            child
            for folder in level
            for child in sorted(folder.iterdir())
            if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
        ]
    if not any(root.iterdir()):
        raise InputError(f"{root} is empty; give the folder that holds {spec.title}.")
    raise InputError(f"{root} is not laid out as {spec.title} ({spec.layout}){_guess(spec, root)}.")


def _guess(spec: "CorpusSpec", root: Path) -> str:
    for name in names():
        other = get_spec(name)
        if other.name != spec.name and other.recognises is not None and other.recognises(root):
            return f"; it looks like {other.title}, corpus name {name!r}"
    return f"; give the folder that holds {spec.title}"
