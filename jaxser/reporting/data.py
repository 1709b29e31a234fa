"""What a report says, computed from rows alone.

    rows = load(["runs/sweep"])
    rows.settings              # a victim, a threat, an attack and an ε each, with its figures

Text columns are integer codes with a list of names, so that a million rows take seconds.
"""

import collections
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from jaxser.results.metrics import accuracy, confusion_matrix, macro_f1, matrix_intervals, uar
from jaxser.results.rows import Estimate, mean_of_defined, read_rows, read_sources
from jaxser.runtime.errors import InputError

__all__ = ["METRICS", "Rows", "Setting", "accuracies", "load", "split_by"]

METRICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "UAR": uar,
    "macro F1": macro_f1,
}

# What makes rows comparable: one setting each.
_SETTING = (
    *("corpus", "split", "domain", "victim", "threat", "attack", "parameters"),
    *("goal", "epsilon_unit", "epsilon_norm", "epsilon"),
)
_TEXTS = (
    *("corpus", "split", "domain", "victim", "threat", "attack", "parameters"),
    *("epsilon_unit", "epsilon_norm", "language", "speaker", "gender"),
    *("label", "clean_prediction", "prediction", "device", "utterance"),
)
_NUMBERS = (
    *("epsilon", "seed", "success", "sparsity", "mean_abs", "snr_peak", "snr_power", "stoi"),
    *("queries", "gradients", "seconds", "compile_seconds"),
)
# What is read to tell other columns apart, or counted.
_OTHERS = (
    *("victim_fingerprint", "label_source", "attacked_label", "targeted"),
    *("notes", "flags", "synthetic"),
)

# Before a label to reach.
_TARGET = "→"


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Columns of rows, each row once.

    Attributes:
      texts: code of every row, by column; -1 for null. Beside those of the row schema "goal":
        "truth", "prediction", or the label to reach as "→ anger".
      names: what the codes stand for.
      numbers: by column.
      repeated: rows that were left out, since the same row was there already.
      notes: remarks that results must carry, each once.
      flags: rows per flag.
      synthetic: whether any speech was made from code.
      sources: what made the rows, as :func:`jaxser.results.rows.read_sources` has it.
    """

    texts: Mapping[str, Int[np.ndarray, " rows"]]
    names: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, Float[np.ndarray, " rows"]]
    repeated: int
    notes: tuple[str, ...]
    flags: Mapping[str, int]
    synthetic: bool
    sources: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.numbers["epsilon"])

    def words(self, column: str, where: Int[np.ndarray, " some"]) -> np.ndarray:
        """What a column of text says in some rows; None for null."""
        return np.array([*self.names[column], None], object)[self.texts[column][where]]

    @functools.cached_property
    def attacks(self) -> list[tuple[str, str]]:
        """Name and hyper-parameters of every attack."""
        size = len(self.names["parameters"])
        pairs = np.unique(self.texts["attack"].astype(np.int64) * size + self.texts["parameters"])
        return [
            (self.names["attack"][pair // size], self.names["parameters"][pair % size])
            for pair in pairs.tolist()
        ]

    @functools.cached_property
    def labels(self) -> dict[tuple[str, str], str]:
        """What tables call an attack: its name, and what sets it apart from others of that name.

        Bounds are the victim's and left out, unless a victim was attacked within several.
        """
        of_name: dict[str, list[str]] = {}
        for name, parameters in self.attacks:
            of_name.setdefault(name, []).append(parameters)
        found = {}
        for name, texts in of_name.items():
            values = [json.loads(text) for text in texts]
            if not self._bounds_differ(name):
                values = [{k: v for k, v in each.items() if k != "bounds"} for each in values]
            keys = _telling_keys(values)
            for text, value in zip(texts, values, strict=True):
                found[name, text] = " ".join([name, *(f"{key} {value.get(key)}" for key in keys)])
        return found

    def _bounds_differ(self, name: str) -> bool:
        """Whether one victim has attacks of a name that differ in their bounds alone."""
        size = len(self.names["parameters"])
        own = self.texts["attack"] == self.names["attack"].index(name)
        pairs = np.unique(
            self.texts["threat"][own].astype(np.int64) * size + self.texts["parameters"][own]
        )
        found = []
        for pair in pairs.tolist():
            values = json.loads(self.names["parameters"][pair % size])
            values.pop("bounds", None)
            found.append((pair // size, json.dumps(values, sort_keys=True)))
        return len(set(found)) < len(found)

    @functools.cached_property
    def settings(self) -> "list[Setting]":
        """Every setting; ε from weak to strong."""
        return sorted((_setting_of(self, where) for where in _grouped(self)), key=_order)

    def label(self, name: str, parameters: str, goal: str) -> str:
        """What tables call an attack with a goal, which is left out where all have the same."""
        base = self.labels[name, parameters]
        if goal.startswith(_TARGET):
            return f"{base} {goal}"
        return f"{base} from {goal}" if self._several_goals else base

    @functools.cached_property
    def _several_goals(self) -> bool:
        """Whether some attacks leave the truth, and others the victim's prediction."""
        return sum(not each.startswith(_TARGET) for each in self.distinct("goal")) > 1

    def distinct(self, column: str) -> tuple[str, ...]:
        """Names that occur, in the order of their first row."""
        codes, first = np.unique(self.texts[column], return_index=True)
        ordered = codes[np.argsort(first)]
        return tuple(self.names[column][code] for code in ordered if code >= 0)


def _telling_keys(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few hyper-parameters as tell apart what differs at all, the first where any would do."""
    texts = [{key: json.dumps(value) for key, value in each.items()} for each in values]
    keys = list(dict.fromkeys(key for each in texts for key in each))

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(each.get(key) for key in chosen) for each in texts})

    chosen = [key for key in keys if kinds([key]) > 1]
    for key in reversed(chosen):
        rest = [each for each in chosen if each != key]
        if kinds(rest) == kinds(chosen):
            chosen = rest
    return chosen


def load(folders: Sequence[Path]) -> Rows:
    """All rows in some folders, each once.

    Raises:
      InputError: no rows, or files that are damaged or of another layout.
    """
    tables, sources = [], []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give a run or a sweep that has rows.")
        tables.append(read_rows(folder, [*_TEXTS, *_NUMBERS, *_OTHERS], coded=True))
        sources += [source for source in read_sources(folder) if source not in sources]
    table = pa.concat_tables(tables).unify_dictionaries()
    if not len(table):
        raise InputError(f"{', '.join(map(str, folders))}: all files of rows are empty.")
    coded = {name: _coded(table[name]) for name in (*_TEXTS, *_OTHERS[:3])}
    targeted = table["targeted"].to_numpy()
    goal, attacked = coded.pop("label_source"), coded.pop("attacked_label")
    coded["goal"] = _goals(goal, attacked, targeted)
    coded |= _told_apart(coded["victim"], coded.pop("victim_fingerprint"), coded["threat"])
    numbers = {column: table[column].cast(pa.float64()).to_numpy() for column in _NUMBERS}
    notes, flags = _counted(table["notes"])[0], table["flags"]
    synthetic = bool(pc.any(table["synthetic"]).as_py())
    del table, tables  # a million rows are hundreds of megabytes
    kept = _first_of_each(coded, numbers)
    count = len(numbers["epsilon"])
    if len(kept) < count:
        coded = {name: (codes[kept], names) for name, (codes, names) in coded.items()}
        numbers = {name: values[kept] for name, values in numbers.items()}
        flags = flags.take(pa.array(kept))
    return Rows(
        texts={name: codes for name, (codes, _) in coded.items()},
        names={name: names for name, (_, names) in coded.items()},
        numbers=numbers,
        repeated=count - len(kept),
        notes=notes,
        flags=_counted(flags)[1],
        synthetic=synthetic,
        sources=sources,
    )


_Coded = tuple[Int[np.ndarray, " rows"], tuple[str, ...]]


def _coded(column: pa.ChunkedArray) -> _Coded:
    """Code of every row, -1 for null, and what the codes stand for."""
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, tuple(encoded.dictionary.to_pylist())


def _goals(source: _Coded, attacked: _Coded, targeted: Bool[np.ndarray, " rows"]) -> _Coded:
    """What attacks are after: rows towards different targets are of different attacks."""
    codes = np.where(targeted, len(source[1]) + attacked[0], source[0])
    return codes, (*source[1], *(f"{_TARGET} {name}" for name in attacked[1]))


def _told_apart(victim: _Coded, fingerprint: _Coded, threat: _Coded) -> dict[str, _Coded]:
    """Victims and threat models; victims of one name and different parameters, such as one that was
    trained again, have their fingerprint beside the name."""
    size = len(fingerprint[1])
    pairs, codes = np.unique(
        victim[0].astype(np.int64) * size + fingerprint[0], return_inverse=True
    )
    found = [(victim[1][pair // size], fingerprint[1][pair % size]) for pair in pairs.tolist()]
    counts = collections.Counter(name for name, _ in found)
    if max(counts.values()) == 1:
        return {"victim": victim, "threat": threat}
    names = tuple(f"{name} ({digits[:8]})" if counts[name] > 1 else name for name, digits in found)
    # The fingerprint of a threat model is known only where it is the victim as well.
    places = {name: place for place, name in enumerate(threat[1])}
    own = np.array([places.get(name, -1) for name in victim[1]])[victim[0]] == threat[0]
    threats = np.where(own, codes, len(names) + threat[0])
    return {"victim": (codes, names), "threat": (threats, (*names, *threat[1]))}


def _first_of_each(
    coded: Mapping[str, _Coded], numbers: Mapping[str, Float[np.ndarray, " rows"]]
) -> Int[np.ndarray, " kept"]:
    """Places of the rows without those that repeat an earlier one.

    A folder given twice, or rows that were made once with and once without STOI, must not narrow
    the intervals.
    """
    key = _numbered((*_SETTING, "utterance", "seed"), coded, numbers)
    _, first = np.unique(key, return_index=True)
    return np.sort(first)


def _numbered(
    columns: Sequence[str],
    coded: Mapping[str, _Coded],
    numbers: Mapping[str, Float[np.ndarray, " rows"]],
) -> Int[np.ndarray, " rows"]:
    """A number per row, the same for rows that agree in all columns."""
    key = np.zeros(len(numbers["epsilon"]), np.int64)
    bound = 1
    for column in columns:
        if column in coded:
            codes, size = coded[column][0] + 1, len(coded[column][1]) + 1
        else:
            values, codes = np.unique(numbers[column], return_inverse=True)
            size = len(values)
        if bound > np.iinfo(np.int64).max // size:
            # Renumbered where the product of the sizes would overflow.
            values, key = np.unique(key, return_inverse=True)
            bound = len(values)
        key, bound = key * size + codes, bound * size
    return key


def _counted(column: pa.ChunkedArray) -> tuple[tuple[str, ...], dict[str, int]]:
    """The distinct entries of lists, and how often each occurs."""
    counts = pc.value_counts(pc.list_flatten(column)).to_pylist()
    return tuple(each["values"] for each in counts), {c["values"]: c["counts"] for c in counts}


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Rows of one victim, threat, attack, goal, ε, corpus, part and domain; all seeds together.

    Attributes:
      facts: by column of the row schema, and "goal" as :class:`Rows` has it.
      label: of the attack, with the hyper-parameters that tell it from others of its name.
      where: places of its rows.
      classes: names, in the order of the matrices.
      before, after: confusion matrices of the clean and of the adversarial speech; the last row and
        column stand for logits that are not finite.
      fooled: share of rows whose prediction changed.
      on_correct: success on the rows that were right before; NaN without any.
      success: share of rows that the attack reached its goal on.
      means: over the rows that the attack changed as it wanted: SNRs, sparsity, STOI.
      gradients: mean backward passes; 0 of attacks that see none, and of noise.
      queries: 5 %, 50 %, 95 % and mean.
    """

    facts: Mapping[str, Any]
    label: str
    where: Int[np.ndarray, " rows"]
    classes: tuple[str, ...]
    before: Int[np.ndarray, "classes classes"]
    after: Int[np.ndarray, "classes classes"]
    fooled: float
    on_correct: float
    success: float
    means: Mapping[str, float]
    gradients: float
    queries: tuple[float, float, float, float]

    @functools.cached_property
    def figures(self) -> dict[str, tuple[Estimate, Estimate]]:
        """By name of a metric, before and after the attack."""
        both = zip(_estimates(self.before), _estimates(self.after), strict=True)
        return dict(zip(METRICS, both, strict=True))

    @property
    def robust_accuracy(self) -> Estimate:
        """After the attack, alone: without the draws that other metrics need."""
        return _share(int(np.trace(self.after)), len(self.where))

    @property
    def transferred(self) -> bool:
        return bool(self.facts["victim"] != self.facts["threat"])


def split_by(
    rows: Rows, column: str, where: Int[np.ndarray, " rows"], most: int | None = None
) -> Iterator[tuple[str, Int[np.ndarray, " part"]]]:
    """Name and rows of every value of a column, or of the ``most`` values that have most rows."""
    codes = rows.texts[column][where]
    counts = np.bincount(codes[codes >= 0], minlength=len(rows.names[column]))
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(counts)), side="right")
    chosen = np.argsort(-counts, kind="stable")[:most]
    for code in sorted(chosen[counts[chosen] > 0].tolist(), key=lambda i: rows.names[column][i]):
        yield rows.names[column][code], where[order[ends[code] - counts[code] : ends[code]]]


def accuracies(rows: Rows, where: Int[np.ndarray, " rows"]) -> tuple[Estimate, Estimate]:
    """Before and after the attack, of any rows."""
    label, clean, found = _named(rows, where)
    before, after = (int((each == label).sum()) for each in (clean, found))
    return _share(before, len(where)), _share(after, len(where))


def _share(right: int, rows: int) -> Estimate:
    """Accuracy: two cells are enough to draw from, right and wrong."""
    return _estimates(np.array([[right, rows - right], [0, 0]]))[0]


def _grouped(rows: Rows) -> list[Int[np.ndarray, " rows"]]:
    """Places of the rows of every setting."""
    coded = {name: (codes, rows.names[name]) for name, codes in rows.texts.items()}
    key = _numbered(_SETTING, coded, rows.numbers)
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _setting_of(rows: Rows, where: Int[np.ndarray, " rows"]) -> Setting:
    """The figures of some rows of one setting."""
    first = where[0]
    facts: dict[str, Any] = {}
    for column in _SETTING:
        if column in rows.texts:
            facts[column] = rows.names[column][rows.texts[column][first]]
        else:
            facts[column] = float(rows.numbers[column][first])
    classes, (label, clean, found) = _classes(rows, where)
    count = len(classes)
    before, after = (confusion_matrix(label, each, count) for each in (clean, found))
    changed, right = clean != found, clean == label
    success = rows.numbers["success"][where].astype(bool)
    reached = where[success & changed]
    queries = rows.numbers["queries"][where]
    return Setting(
        facts=facts,
        label=rows.label(facts["attack"], facts["parameters"], facts["goal"]),
        where=where,
        classes=classes,
        before=before,
        after=after,
        fooled=float(changed.mean()),
        on_correct=float(success[right].mean()) if right.any() else float("nan"),
        success=float(success.mean()),
        means={
            name: mean_of_defined(rows.numbers[name][reached])
            for name in ("snr_peak", "snr_power", "sparsity", "stoi")
        },
        gradients=float(rows.numbers["gradients"][where].mean()),
        queries=(*np.percentile(queries, [5, 50, 95]).tolist(), float(queries.mean())),
    )


def _classes(
    rows: Rows, where: Int[np.ndarray, " rows"]
) -> tuple[tuple[str, ...], list[Int[np.ndarray, " rows"]]]:
    """Names in order, and truth and both predictions as places among them."""
    columns = ("label", "clean_prediction", "prediction")
    named = {
        rows.names[column][code]
        for column in columns
        for code in np.unique(rows.texts[column][where])
        if code >= 0
    }
    classes = sorted(named)
    coded = _named(rows, where, classes)
    missing = any((codes == len(classes)).any() for codes in coded)
    return tuple([*classes, "none"] if missing else classes), coded


def _named(
    rows: Rows, where: Int[np.ndarray, " rows"], classes: Sequence[str] | None = None
) -> list[Int[np.ndarray, " rows"]]:
    """Truth and both predictions as places among ``classes``, by default all names of rows."""
    columns = ("label", "clean_prediction", "prediction")
    if classes is None:
        classes = list(dict.fromkeys(name for each in columns for name in rows.names[each]))
    places = {name: place for place, name in enumerate(classes)}
    coded = []
    for column in columns:
        # A missing prediction is a class of its own, which no utterance belongs to: always wrong.
        of_name = [*(places.get(name, -1) for name in rows.names[column]), len(classes)]
        coded.append(np.array(of_name)[rows.texts[column][where]])
    return coded


def _estimates(matrix: Int[np.ndarray, "classes classes"]) -> list[Estimate]:
    return _estimates_of(matrix.tobytes(), len(matrix))


@functools.cache
def _estimates_of(counts: bytes, classes: int) -> list[Estimate]:
    """Of every metric; what a victim takes clean speech for is the same at every ε."""
    matrix = np.frombuffer(counts, np.int64).reshape(classes, classes)
    intervals = matrix_intervals(list(METRICS.values()), matrix)
    return [
        Estimate(float(metric(matrix)), low, high)
        for metric, (low, high) in zip(METRICS.values(), intervals, strict=True)
    ]


def _order(setting: Setting) -> tuple[Any, ...]:
    facts = setting.facts
    # A larger SNR is a smaller perturbation.
    sign = 1.0 if facts["epsilon_unit"] == "amplitude" else -1.0
    fixed = [facts[name] for name in _SETTING if name not in ("epsilon", "parameters", "attack")]
    return (*fixed, setting.label, sign * facts["epsilon"])
