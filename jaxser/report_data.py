"""What a report says, computed from rows alone.

    rows = load(["runs/sweep"])
    settings_of(rows)          # a victim, a threat, an attack and an ε each, with its figures

Text columns are integer codes with a list of names, so that a million rows take seconds.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from jaxser.errors import InputError
from jaxser.metrics import accuracy, bootstrap_interval, confusion_matrix, macro_f1, uar
from jaxser.results import Estimate, mean_of_defined, read_rows

__all__ = ["METRICS", "Rows", "Setting", "load", "setting_of", "settings_of", "split_by"]

METRICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "UAR": uar,
    "macro F1": macro_f1,
}

# What makes rows comparable: one setting each.
_SETTING = (
    *("corpus", "split", "domain", "victim", "threat", "attack", "parameters"),
    *("label_source", "epsilon_unit", "epsilon_norm", "epsilon"),
)
_TEXTS = (
    *("corpus", "split", "domain", "victim", "threat", "attack", "parameters", "label_source"),
    *(
        "epsilon_unit",
        "epsilon_norm",
        "language",
        "speaker",
        "gender",
        "label",
        "clean_prediction",
        "prediction",
    ),
    *("device", "utterance"),
)
_NUMBERS = (
    *("epsilon", "seed", "success", "sparsity", "snr_peak", "snr_power", "stoi", "queries"),
    *("gradients", "seconds", "compile_seconds"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Columns of rows.

    Attributes:
      texts: code of every row, by column; -1 for null.
      names: what the codes stand for.
      numbers: by column.
      notes: remarks that results must carry, each once.
      flags: rows per flag.
      synthetic: whether any speech was made from code.
    """

    texts: Mapping[str, Int[np.ndarray, " rows"]]
    names: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, Float[np.ndarray, " rows"]]
    notes: tuple[str, ...]
    flags: Mapping[str, int]
    synthetic: bool

    def __len__(self) -> int:
        return len(self.numbers["epsilon"])

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
        """What tables call an attack: its name, and what sets it apart from others of that name."""
        of_name: dict[str, list[str]] = {}
        for name, parameters in self.attacks:
            of_name.setdefault(name, []).append(parameters)
        found = {}
        for name, texts in of_name.items():
            values = [json.loads(text) for text in texts]
            keys = [
                key for key in values[0] if len({json.dumps(each.get(key)) for each in values}) > 1
            ]
            for text, value in zip(texts, values, strict=True):
                found[name, text] = " ".join([name, *(f"{key} {value.get(key)}" for key in keys)])
        return found

    def distinct(self, column: str) -> tuple[str, ...]:
        """Names that occur, in the order of their first row."""
        codes, first = np.unique(self.texts[column], return_index=True)
        ordered = codes[np.argsort(first)]
        return tuple(self.names[column][code] for code in ordered if code >= 0)


def load(folders: Sequence[Path]) -> Rows:
    """All rows in some folders.

    Raises:
      InputError: no rows, or files that are damaged or of another layout.
    """
    tables = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give a run or a sweep that has rows.")
        tables.append(read_rows(folder, [*_TEXTS, *_NUMBERS, "notes", "flags", "synthetic"]))
    table = pa.concat_tables(tables)
    texts, names = {}, {}
    for column in _TEXTS:
        encoded = pc.dictionary_encode(table[column]).combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.chunk(0)
        texts[column] = np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False))
        names[column] = tuple(encoded.dictionary.to_pylist())
    numbers = {column: table[column].cast(pa.float64()).to_numpy() for column in _NUMBERS}
    return Rows(
        texts=texts,
        names=names,
        numbers=numbers,
        notes=_counted(table["notes"])[0],
        flags=_counted(table["flags"])[1],
        synthetic=bool(pc.any(table["synthetic"]).as_py()),
    )


def _counted(column: pa.ChunkedArray) -> tuple[tuple[str, ...], dict[str, int]]:
    """The distinct entries of lists, and how often each occurs."""
    counts = pc.value_counts(pc.list_flatten(column)).to_pylist()
    return tuple(each["values"] for each in counts), {c["values"]: c["counts"] for c in counts}


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Rows of one victim, threat, attack, ε, corpus, part and domain; all seeds together.

    Attributes:
      facts: by column of the row schema.
      label: of the attack, with the hyper-parameters that tell it from others of its name.
      where: places of its rows.
      classes: names, in the order of the matrices.
      before, after: confusion matrices of the clean and of the adversarial speech; the last row and
        column stand for logits that are not finite.
      figures: by name of a metric, before and after the attack.
      fooled: share of rows whose prediction changed.
      on_correct: success on the rows that were right before; NaN without any.
      success: share of rows that the attack reached its goal on.
      means: over the rows that the attack changed as it wanted: SNRs, sparsity, STOI.
      queries: 5 %, 50 %, 95 % and mean.
    """

    facts: Mapping[str, Any]
    label: str
    where: Int[np.ndarray, " rows"]
    classes: tuple[str, ...]
    before: Int[np.ndarray, "classes classes"]
    after: Int[np.ndarray, "classes classes"]
    figures: Mapping[str, tuple[Estimate, Estimate]]
    fooled: float
    on_correct: float
    success: float
    means: Mapping[str, float]
    queries: tuple[float, float, float, float]

    @property
    def transferred(self) -> bool:
        return bool(self.facts["victim"] != self.facts["threat"])


def settings_of(rows: Rows) -> list[Setting]:
    """Every setting; ε from weak to strong."""
    return sorted((setting_of(rows, where) for where in _grouped(rows)), key=_order)


def split_by(rows: Rows, column: str, where: Int[np.ndarray, " rows"]) -> Iterator[tuple[str, Any]]:
    """Name and rows of every value of a column."""
    codes = rows.texts[column][where]
    for code in np.unique(codes):
        if code >= 0:
            yield rows.names[column][code], where[codes == code]


def _grouped(rows: Rows) -> list[Int[np.ndarray, " rows"]]:
    """Places of the rows of every setting."""
    key = np.zeros(len(rows), np.int64)
    for column in _SETTING:
        if column in rows.texts:
            codes, size = rows.texts[column], len(rows.names[column])
        else:
            values, codes = np.unique(rows.numbers[column], return_inverse=True)
            size = len(values)
        # Renumbered at every column, so that no product of their sizes overflows.
        _, key = np.unique(key * size + codes, return_inverse=True)
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def setting_of(rows: Rows, where: Int[np.ndarray, " rows"]) -> Setting:
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
    figures = {
        name: (
            _estimate(metric, label, clean, count, before),
            _estimate(metric, label, found, count, after),
        )
        for name, metric in METRICS.items()
    }
    changed, right = clean != found, clean == label
    success = rows.numbers["success"][where].astype(bool)
    reached = where[success & changed]
    queries = rows.numbers["queries"][where]
    return Setting(
        facts=facts,
        label=rows.labels[facts["attack"], facts["parameters"]],
        where=where,
        classes=classes,
        before=before,
        after=after,
        figures=figures,
        fooled=float(changed.mean()),
        on_correct=float(success[right].mean()) if right.any() else float("nan"),
        success=float(success.mean()),
        means={
            name: mean_of_defined(rows.numbers[name][reached])
            for name in ("snr_peak", "snr_power", "sparsity", "stoi")
        },
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
    coded = []
    for column in columns:
        places = [classes.index(name) if name in named else -1 for name in rows.names[column]]
        # A missing prediction is a class of its own, which no utterance belongs to: always wrong.
        codes = np.array([*places, len(classes)])[rows.texts[column][where]]
        coded.append(codes)
    missing = any((codes == len(classes)).any() for codes in coded)
    return tuple([*classes, "none"] if missing else classes), coded


def _estimate(
    metric: Any, label: np.ndarray, found: np.ndarray, count: int, matrix: np.ndarray
) -> Estimate:
    low, high = bootstrap_interval(metric, label, found, count)
    return Estimate(float(metric(matrix)), low, high)


def _order(setting: Setting) -> tuple[Any, ...]:
    facts = setting.facts
    # A larger SNR is a smaller perturbation.
    sign = 1.0 if facts["epsilon_unit"] == "amplitude" else -1.0
    fixed = [facts[name] for name in _SETTING if name not in ("epsilon", "parameters", "attack")]
    return (*fixed, setting.label, sign * facts["epsilon"])
