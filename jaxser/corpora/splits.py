"""Who trains and who is tested: every split by name, and what it leaks.

Splits by speaker hold as many women as men in each part as the corpus allows. The utterance-level
ones (64/16/20 of Facchinetti et al., 80/20 of Echim et al.) put the same speakers on both sides;
they are there to reproduce published figures, and their result carries a note that says so.
"""

import csv
import dataclasses
import functools
import io
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args
from unicodedata import normalize

import numpy as np

from jaxser.corpora import get_spec
from jaxser.corpora.csv_table import read_rows
from jaxser.corpora.spec import PartSplit
from jaxser.corpora.split_leaks import LEAK, leaks_of
from jaxser.corpora.table import UNKNOWN, Corpus, Split, Utterance, genders_of
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.files import write_text

__all__ = ["SPLITS", "assign_split", "read_split", "warn_once", "write_split"]

_PARTS: tuple[Split, ...] = ("train", "val", "test")
_ATTEMPTS = 200

Fractions = tuple[float, float, float]
Parts = dict[str, Split]


def assign_split(
    corpus: Corpus,
    name: str = "standard",
    *,
    seed: int = 0,
    fold: int = 0,
    folds: int = 5,
    file: Path | str | None = None,
    fractions: Fractions | None = None,
) -> Corpus:
    """The corpus with every utterance in "train", "val" or "test".

    Args:
      corpus: from :func:`jaxser.corpora.load`.
      name: "standard" (the corpus' own, speaker-independent), "speaker", "iemocap_sessions"
        (STAA-Net's), "demos_40_30_30", "random_64_16_20", "random_80_20", "file" (80/20 of
        whole files where windows or chunks are split; these three leak speakers), "window" (80/20
        of the windows themselves, which leaks speech), "kfold", "loso" (leave one speaker out),
        "csv" or "given".
      seed: of the speaker, DEMoS, k-fold and random splits.
      fold: the fold tested by "kfold" (the next one validates if there are three or more), or the
        index of the speaker tested by "loso" (no val).
      folds: of "kfold".
      file: of "csv", with the columns id,split.
      fractions: of "speaker", (train, val, test); 0.6, 0.2, 0.2 by default.

    Returns:
      A copy whose notes say what leaks, if anything does.

    Raises:
      InputError: a part would be empty or hold one class only, or a class would be missing from
        training.
      UsageError: there is no such split, fold or file.

    Examples:
      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> jaxser.corpora.assign_split(corpus, "given").utterances[0].split
      'train'
    """
    if fractions is not None and name != "speaker":
        raise UsageError(f"fractions belong to the split 'speaker', not to {name!r}.")
    if name not in SPLITS:
        raise UsageError(f"there is no split {name!r}; {nearest_name(name, SPLITS)}")
    options = _Options(seed, fold, folds, file, fractions or (0.6, 0.2, 0.2))
    split = SPLITS[name](corpus, options)
    _check_parts(corpus, name, split, _planned_parts(corpus, name, options))
    leaks = tuple(leaks_of(corpus, name, split))
    for leak in leaks:
        warn_once(f"{corpus.title}: {leak}.")
    # What an earlier split leaked is no longer so.
    notes = tuple(note for note in corpus.notes if not note.startswith(LEAK))
    utterances = tuple(dataclasses.replace(u, split=split[u.id]) for u in corpus.utterances)
    return dataclasses.replace(corpus, utterances=utterances, notes=notes + leaks)


@dataclasses.dataclass(frozen=True)
class _Options:
    seed: int
    fold: int
    folds: int
    file: Path | str | None
    fractions: Fractions


@functools.cache
def warn_once(sentence: str) -> None:
    """Log a warning, but not twice in one process."""
    logging.getLogger("jaxser.corpora").warning(sentence)


def _standard(corpus: Corpus, options: _Options) -> Parts:
    standard = get_spec(corpus.name).standard_split
    if standard == "given" and all(u.split is None for u in corpus.utterances):
        standard = "speaker"
    if isinstance(standard, str):
        # It must not change with a seed.
        return SPLITS[standard](corpus, dataclasses.replace(options, seed=0))
    keys = zip(_PARTS, (standard.train, standard.val, standard.test), strict=True)
    part = {key: split for split, members in keys for key in members}
    by = standard.by
    return {u.id: part[u.speaker if by == "speaker" else u.group] for u in corpus.utterances}


def _iemocap_sessions(corpus: Corpus, options: _Options) -> Parts:
    _only_for(corpus, "iemocap", "iemocap_sessions")
    return _standard(corpus, options)


def _demos(corpus: Corpus, options: _Options) -> Parts:
    _only_for(corpus, "demos", "demos_40_30_30")
    return _speaker(corpus, dataclasses.replace(options, fractions=(0.4, 0.3, 0.3)))


def _only_for(corpus: Corpus, name: str, split: str) -> None:
    if corpus.name != name:
        raise UsageError(
            f"the split {split!r} is one of corpus {name!r}, not of {corpus.name!r}; use 'speaker'."
        )


def _speakers(corpus: Corpus, split: str) -> dict[str, list[str]]:
    """Sorted speakers of each gender."""
    genders = genders_of(corpus.utterances)
    missing = sum(u.speaker == UNKNOWN for u in corpus.utterances)
    if missing and len(genders) > 1:
        raise InputError(
            f"{missing:,} of {len(corpus.utterances):,} utterances of {corpus.title} have no "
            f"speaker, so the split {split!r} cannot tell where they belong: fill the speaker "
            "column, or take a random split, which leaks speakers."
        )
    if len(genders) < 2:
        raise InputError(
            f"the split {split!r} needs two speakers, but {corpus.title} names {len(genders)}: "
            "give the speakers in the table, or take a random split, which leaks speakers."
        )
    grouped = defaultdict(list)
    for speaker in sorted(genders):
        grouped[genders[speaker]].append(speaker)
    return dict(sorted(grouped.items()))


def _speaker(corpus: Corpus, options: _Options) -> Parts:
    """The first shuffle of the speakers that puts every class into every part.

    Where none does, as in small corpora, the first with every class in training.
    """
    fractions = options.fractions
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            f"fractions {fractions} must be three shares (train, val, test) that add up to 1."
        )
    grouped = _speakers(corpus, "speaker")
    rng = np.random.default_rng(options.seed)
    fallback = None
    for _ in range(_ATTEMPTS):
        taken = [0, 0, 0]
        parts: dict[str, Split] = {}
        for speakers in grouped.values():
            counts = _allocate(len(speakers), fractions, taken)
            taken = [a + b for a, b in zip(taken, counts, strict=True)]
            order = [speakers[i] for i in rng.permutation(len(speakers))]
            parts.update(zip(order, _repeat_parts(counts), strict=True))
        split = {u.id: parts[u.speaker] for u in corpus.utterances}
        missing = _missing_classes(corpus, split)
        if not any(missing.values()):
            return split
        if fallback is None or (missing["train"] == [] and not fallback[0]):
            fallback = (missing["train"] == [], split)
    assert fallback is not None
    return fallback[1]


def _allocate(count: int, fractions: Sequence[float], taken: Sequence[int]) -> list[int]:
    """How many of ``count`` go to each part, with what earlier groups have ``taken`` in mind.

    Every part that has a share gets one if there are enough; the rest go one by one to the part
    that lacks most of its share, test before val.
    """
    total = sum(taken) + count
    wanted = [i for i, fraction in enumerate(fractions) if fraction > 0]
    counts = [0] * len(fractions)
    for turn in range(count):
        empty = [i for i in wanted if not counts[i]] if count >= len(wanted) else []
        lacking = {i: fractions[i] * total - taken[i] - counts[i] for i in wanted}
        remaining = count - turn
        choose_from = empty if len(empty) >= remaining else wanted
        counts[max(choose_from, key=lambda i: (round(lacking[i], 9), i == 0, i))] += 1
    return counts


def _repeat_parts(counts: Sequence[int]) -> list[Split]:
    return [part for part, count in zip(_PARTS, counts, strict=True) for _ in range(count)]


def _random(
    fractions: Fractions, by: Callable[[Utterance], str] = lambda u: u.id
) -> Callable[[Corpus, _Options], Parts]:
    """A share of every class in each part; rows that ``by`` calls the same stay together."""

    def split(corpus: Corpus, options: _Options) -> Parts:
        rng = np.random.default_rng(options.seed)
        parts: Parts = {}
        for label in corpus.labels:
            ids = list(dict.fromkeys(by(u) for u in corpus.utterances if u.label == label))
            counts = _allocate(len(ids), fractions, (0, 0, 0))
            order = [ids[i] for i in rng.permutation(len(ids))]
            parts.update(zip(order, _repeat_parts(counts), strict=True))
        return {u.id: parts[by(u)] for u in corpus.utterances}

    return split


def _file_of(utterance: Utterance) -> str:
    return utterance.source or utterance.id


def _kfold(corpus: Corpus, options: _Options) -> Parts:
    grouped = _speakers(corpus, "kfold")
    count = sum(map(len, grouped.values()))
    if not 2 <= options.folds <= count:
        raise UsageError(
            f"{options.folds} folds are not possible: {corpus.title} has {count} speakers, so ask "
            f"for 2 to {count}."
        )
    if not 0 <= options.fold < options.folds:
        raise UsageError(f"fold {options.fold} is not one of 0 to {options.folds - 1}.")
    rng = np.random.default_rng(options.seed)
    order = [speakers[i] for speakers in grouped.values() for i in rng.permutation(len(speakers))]
    fold_of = {speaker: place % options.folds for place, speaker in enumerate(order)}
    validated = (options.fold + 1) % options.folds if options.folds > 2 else None
    parts: dict[int, Split] = {
        fold: "test" if fold == options.fold else "val" if fold == validated else "train"
        for fold in range(options.folds)
    }
    return {u.id: parts[fold_of[u.speaker]] for u in corpus.utterances}


def _loso(corpus: Corpus, options: _Options) -> Parts:
    speakers = sorted(name for group in _speakers(corpus, "loso").values() for name in group)
    if not 0 <= options.fold < len(speakers):
        raise UsageError(
            f"fold {options.fold} is no speaker of {corpus.title}; give 0 to {len(speakers) - 1}."
        )
    tested = speakers[options.fold]
    return {u.id: "test" if u.speaker == tested else "train" for u in corpus.utterances}


def _csv(corpus: Corpus, options: _Options) -> Parts:
    if options.file is None:
        raise UsageError("the split 'csv' needs a file with the columns id,split.")
    # The same name may be composed in the one table and decomposed in the other.
    found = {normalize("NFC", name): part for name, part in read_split(options.file).items()}
    # A line may name a window or chunk, or the whole file that it is cut from.
    whole = {u.id: found.get(normalize("NFC", u.source)) for u in corpus.utterances}
    named = {u.id: found.get(normalize("NFC", u.id), whole[u.id]) for u in corpus.utterances}
    parts = {name: part for name, part in named.items() if part is not None}
    missing = [name for name in named if name not in parts]
    if missing:
        raise InputError(
            f"{options.file} has no line for {len(missing)} of the {len(corpus.utterances)} "
            f"utterances of {corpus.title}, {missing[0]} for one; add them."
        )
    return parts


def _given(corpus: Corpus, options: _Options) -> Parts:
    given = {u.id: u.split for u in corpus.utterances if u.split is not None}
    for utterance in corpus.utterances:
        if utterance.id not in given:
            raise InputError(
                f"{utterance.id} of {corpus.title} is in no part; fill the split column of every "
                "line, or take another split."
            )
    return given


SPLITS: Mapping[str, Callable[[Corpus, _Options], Parts]] = {
    "standard": _standard,
    "speaker": _speaker,
    "iemocap_sessions": _iemocap_sessions,
    "demos_40_30_30": _demos,
    "random_64_16_20": _random((0.64, 0.16, 0.20)),
    "random_80_20": _random((0.80, 0.0, 0.20)),
    "file": _random((0.80, 0.0, 0.20), by=_file_of),
    "window": _random((0.80, 0.0, 0.20)),
    "kfold": _kfold,
    "loso": _loso,
    "csv": _csv,
    "given": _given,
}


def _missing_classes(corpus: Corpus, split: Parts) -> dict[Split, list[str]]:
    """Classes that each part lacks; a part without utterances lacks all."""
    present = defaultdict(set)
    for utterance in corpus.utterances:
        present[split[utterance.id]].add(utterance.label)
    return {part: [x for x in corpus.labels if x not in present[part]] for part in _PARTS}


def _check_parts(corpus: Corpus, name: str, split: Parts, planned: set[str]) -> None:
    missing = _missing_classes(corpus, split)
    where = f"the split {name!r} of {corpus.title}"
    for part, lacking in missing.items():
        present = len(corpus.labels) - len(lacking)
        if present == 0 and part in planned:
            raise InputError(f"{where} leaves {part} empty; take another split or seed.")
        if present == 1:
            (only,) = set(corpus.labels) - set(lacking)
            raise InputError(
                f"{where} leaves {part} with the one class {only}; take another split or seed."
            )
    if missing["train"]:
        raise InputError(
            f"{where} trains without {', '.join(missing['train'])}; take another split or seed, or "
            "load the corpus without that class."
        )
    for part in ("val", "test"):
        if missing[part] and len(missing[part]) < len(corpus.labels):
            warn_once(f"{where} has no {', '.join(missing[part])} in {part}.")


def _planned_parts(corpus: Corpus, name: str, options: _Options) -> set[str]:
    """Parts that must not be empty: train, test, and val where the split has one by design."""
    standard = get_spec(corpus.name).standard_split
    if name in ("standard", "iemocap_sessions"):
        if isinstance(standard, PartSplit):
            return {"train", "test"} | ({"val"} if standard.val else set())
        name = standard
    has_val = name in ("demos_40_30_30", "random_64_16_20") or (
        name == "speaker" and options.fractions[1] > 0
    )
    return {"train", "test"} | ({"val"} if has_val else set())


def write_split(corpus: Corpus, path: Path | str) -> None:
    """Write ``id,split`` of every utterance that is in a part to a CSV file.

    Raises:
      InputError: the corpus has no split yet.

    Examples:
      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> jaxser.corpora.write_split(jaxser.corpora.assign_split(corpus, "given"), "split.csv")
    """
    if all(utterance.split is None for utterance in corpus.utterances):
        raise InputError(f"{corpus.title} has no split to write; assign one first.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "split"))
    for utterance in corpus.utterances:
        if utterance.split is not None:
            writer.writerow((utterance.id, utterance.split))
    write_text(path, table.getvalue())


def read_split(path: Path | str) -> dict[str, Split]:
    """Part of every utterance id, from a CSV file with the columns ``id,split``.

    Raises:
      InputError: the file is missing or is not such a table; the message names the line.

    Examples:
      >>> from pathlib import Path
      >>> import jaxser
      >>> _ = Path("mine.csv").write_text("id,split\\na1,train\\na2,test")
      >>> jaxser.corpora.read_split("mine.csv")
      {'a1': 'train', 'a2': 'test'}
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - False for every path that cannot be
        raise InputError(f"there is no split file {path}; it should hold the columns id,split.")
    parts: dict[str, Split] = {}
    for where, row in read_rows(path, ("id", "split"), required=("id", "split")):
        if row["split"] not in get_args(Split):
            raise InputError(f"{where}: split {row['split']!r} is not one of train, val, test.")
        if parts.setdefault(row["id"], cast(Split, row["split"])) != row["split"]:
            raise InputError(f"{where}: {row['id']} is in two parts.")
    return parts
