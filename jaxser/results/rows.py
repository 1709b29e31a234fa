"""Rows: one per (victim, attack, ε, utterance), in Parquet files; and the tables made from them.

    with RowWriter("runs/demo/attacks/pgd-1a2b3c4d") as writer:
        writer.add(columns)                                # {"utterance": [...], "epsilon": ...}
    table = read_rows("runs/demo/attacks/pgd-1a2b3c4d")    # pyarrow; pandas reads the files too
    print(format_table(summarise(table, by="gender")))

Every figure of a table comes from rows, so it can be made again without an accelerator. The three
ways to count success are kept apart: fooling rate (share of all rows whose prediction changes,
the ASR of STAA-Net, arXiv 2402.01227), robust accuracy, and success on the rows that were right
before. An undefined value is NaN, with a count of the rows that had one.
"""

import dataclasses
import hashlib
import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaxser.results.metrics import accuracy, bootstrap_interval, confusion_matrix, uar
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.files import atomic_file

__all__ = [
    "EPSILON_UNITS",
    "PARTS",
    "SCHEMA",
    "Estimate",
    "RowWriter",
    "Summary",
    "format_table",
    "mean_of_defined",
    "parameters_hash",
    "read_rows",
    "read_sources",
    "row_files",
    "summarise",
]

SCHEMA = pa.schema(
    [
        ("victim", pa.string()),
        ("victim_fingerprint", pa.string()),
        ("threat", pa.string()),  # victim that the attack was run on: itself, or another
        ("corpus", pa.string()),
        ("language", pa.string()),
        ("synthetic", pa.bool_()),
        ("notes", pa.list_(pa.string())),
        ("split", pa.string()),
        ("domain", pa.string()),  # that was changed: "waveform" or "features"
        ("utterance", pa.string()),
        ("speaker", pa.string()),
        ("gender", pa.string()),
        ("label", pa.string()),
        ("attacked_label", pa.string()),
        ("label_source", pa.string()),  # "truth", "prediction" or "target"
        ("targeted", pa.bool_()),
        ("clean_prediction", pa.string()),  # null where the logits are not finite
        ("prediction", pa.string()),  # of the adversarial input; null likewise
        ("attack", pa.string()),
        ("parameters", pa.string()),  # JSON
        ("parameters_hash", pa.string()),
        ("epsilon", pa.float64()),
        ("epsilon_unit", pa.string()),  # "amplitude", or dB as "snr_peak" or "snr_power"
        ("epsilon_norm", pa.string()),  # that ε bounds
        ("epsilon_amplitude", pa.float64()),  # ε as such a norm
        ("seed", pa.int64()),
        ("success", pa.bool_()),
        ("stage", pa.string()),  # member of a composite attack that succeeded; null if none
        ("found_norm", pa.float64()),  # smallest whatever ε; NaN where none, or not looked for
        ("l0", pa.float64()),
        ("l1", pa.float64()),
        ("l2", pa.float64()),
        ("linf", pa.float64()),
        ("mean_abs", pa.float64()),
        ("sparsity", pa.float64()),
        ("snr_peak", pa.float64()),  # dB; NaN where undefined
        ("snr_power", pa.float64()),
        ("stoi", pa.float64()),  # intelligibility; NaN where undefined or not asked for
        ("steps", pa.int64()),
        ("queries", pa.int64()),
        ("gradients", pa.int64()),
        ("flags", pa.list_(pa.string())),
        ("device", pa.string()),
        ("seconds", pa.float64()),  # steady state, shared out over the rows of a batch
        ("compile_seconds", pa.float64()),  # of the run that made the row, as is the count
        ("compile_count", pa.int64()),
    ]
)

# By what a table can be split, and the column that says it.
PARTS = {
    "class": "label",
    "gender": "gender",
    "speaker": "speaker",
    "language": "language",
    "corpus": "corpus",
}

# How a table writes ε.
EPSILON_UNITS = {"amplitude": "", "snr_peak": " dB peak", "snr_power": " dB power"}

_FLUSH_ROWS = 2_000
_FLUSH_SECONDS = 30.0

# Where a Parquet file keeps what made its rows.
_SOURCE = b"jaxser"


def parameters_hash(values: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a set of JSON values, whatever their order."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class RowWriter:
    """Appends rows to a folder, one whole Parquet file per flush.

    Args:
      folder: made where it is missing; files that are there stay.
      source: what makes the rows (config, corpus, versions), ready for JSON; every file carries it
        in its metadata.
    """

    def __init__(self, folder: Path | str, source: Mapping[str, Any] | None = None) -> None:
        self._folder = Path(folder)
        self._metadata = {} if source is None else {_SOURCE: json.dumps(source)}
        self._waiting: list[pa.Table] = []
        self._flushed_at = time.monotonic()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Rows that are finished are kept when a run is interrupted; on a full disk they cannot be.
        if not isinstance(error, OSError):
            self.flush()

    def add(self, *parts: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Take rows, all columns of the SCHEMA; they are written now or with the next ones.

        What is given together comes into one file: all of it is there after a crash, or nothing.
        """
        self._waiting += [pa.table(dict(columns), schema=SCHEMA) for columns in parts]
        waiting = sum(len(table) for table in self._waiting)
        if waiting >= _FLUSH_ROWS or time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        self._flushed_at = time.monotonic()
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).replace_schema_metadata(self._metadata)
        # Sorted by time, and never another process' name.
        name = f"rows-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet"
        with atomic_file(self._folder / name) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._waiting = []


def read_rows(
    folder: Path | str, columns: Sequence[str] | None = None, *, coded: bool = False
) -> pa.Table:
    """All rows in a folder and those inside it, in the order in which they were written.

    Args:
      folder: of one attack, a victim's or a sweep's.
      columns: of the SCHEMA; all by default.
      coded: text as Arrow dictionaries, a code per row and every text once, which takes a
        fraction of the memory.

    Raises:
      InputError: no row files, or one that is damaged or of another layout.
    """
    tables = list(row_files(folder, columns, coded=coded))
    if not tables:
        raise _no_rows(folder)
    return pa.concat_tables(tables).unify_dictionaries()


def row_files(
    folder: Path | str, columns: Sequence[str] | None = None, *, coded: bool = False
) -> Iterator[pa.Table]:
    """The rows of :func:`read_rows` file by file, in little memory; nothing where there are none.

    Raises:
      InputError: a file that is damaged or of another layout.
    """
    fields = SCHEMA if columns is None else [SCHEMA.field(name) for name in columns]
    texts = [field.name for field in fields if coded and field.type == pa.string()]
    code = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [field.with_type(code) if field.name in texts else field for field in fields]
    )
    for path in _paths(folder):
        with _of_rows(path):
            metadata = pq.read_metadata(path)
            _check_layout(path, metadata.schema.to_arrow_schema().names)
            file = pq.ParquetFile(path, metadata=metadata, read_dictionary=texts)
            table = file.read(schema.names).select(schema.names).cast(schema)
        yield table


def read_sources(folder: Path | str) -> list[dict[str, Any]]:
    """What made the rows of a folder, as :class:`RowWriter` was told, each once.

    Raises:
      InputError: no row files, or one that is damaged.
    """
    found: dict[bytes, None] = {}
    paths = _paths(folder)
    if not paths:
        raise _no_rows(folder)
    for path in paths:
        with _of_rows(path):
            metadata = pq.read_schema(path).metadata or {}
        if _SOURCE in metadata:
            found[metadata[_SOURCE]] = None
    return [json.loads(text) for text in found]


def _paths(folder: Path | str) -> list[Path]:
    """In the order in which they were written."""
    return sorted(Path(folder).rglob("rows-*.parquet"), key=lambda path: (path.name, path))


def _no_rows(folder: Path | str) -> InputError:
    return InputError(f"{folder} holds no rows-*.parquet; run python -m jaxser.attack first.")


@contextmanager
def _of_rows(path: Path) -> Iterator[None]:
    """Damage to a file as one sentence."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            f"{path} is not a file of attack rows ({error}); delete it and run the attack "
            "again, which makes the missing rows."
        ) from None


def _check_layout(path: Path, names: Sequence[str]) -> None:
    """Rows of several layouts must not be put together as if they were of one."""
    told = [
        f"{how} {', '.join(sorted(columns))}"
        for how, columns in (
            ("lacks", set(SCHEMA.names) - set(names)),
            ("also has", set(names) - set(SCHEMA.names)),
        )
        if columns
    ]
    if told:
        raise InputError(
            f"{path} is of another version of jaxser: it {' and '.join(told)}; run the attack "
            "again, or read its folder with the version that wrote it."
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """One line of a table: the rows of one attack at one ε (and in one part).

    Attributes:
      attack: registry name.
      parameters: its hyper-parameters as JSON.
      epsilon: the budget.
      epsilon_unit: "amplitude", or dB as "snr_peak" or "snr_power".
      epsilon_norm: norm that it bounds.
      part: value of the column that the table is split by, or "".
      rows: how many.
      clean_accuracy, clean_uar: before the attack.
      robust_accuracy, robust_uar: after it.
      fooling_rate: share of all rows whose prediction changed.
      success_rate: share of all rows where the attack reached its goal (left the attacked label,
        or reached the target).
      correct: rows that were right before.
      success_on_correct: share of those that the attack reached its goal on; NaN without any.
      successful: rows whose prediction changed to what the attack wanted; the figures below it
        are over these alone, as STAA-Net has them.
      snr_peak_mean, snr_peak_median, snr_power_mean, snr_power_median: dB.
      stoi: mean intelligibility; NaN where it was not measured.
      snr_undefined: successful rows without an SNR (no signal, or no perturbation).
      sparsity: mean share of changed samples.
      linf, l2: mean norms of the perturbation.
      found: rows for which an attack that looks for the smallest perturbation found one.
      found_norm_mean, found_norm_median: its norm (that of ``epsilon_norm``, whatever ε), where
        one was needed: not for rows that are what the attack wants to begin with.
      queries, gradients: mean passes per row, over all rows.
      no_prediction: rows whose adversarial logits are not finite.
      flags: rows per flag.
      rows_per_second: steady state.
      compile_seconds, compile_count: of the run among the rows that compiled most.
    """

    attack: str
    parameters: str
    epsilon: float
    epsilon_unit: str
    epsilon_norm: str
    part: str
    rows: int
    clean_accuracy: Estimate
    clean_uar: Estimate
    robust_accuracy: Estimate
    robust_uar: Estimate
    fooling_rate: float
    success_rate: float
    correct: int
    success_on_correct: float
    successful: int
    snr_peak_mean: float
    snr_peak_median: float
    snr_power_mean: float
    snr_power_median: float
    stoi: float
    snr_undefined: int
    sparsity: float
    linf: float
    l2: float
    found: int
    found_norm_mean: float
    found_norm_median: float
    queries: float
    gradients: float
    no_prediction: int
    flags: Mapping[str, int]
    rows_per_second: float
    compile_seconds: float
    compile_count: int


def summarise(
    rows: pa.Table,
    *,
    by: str | None = None,
    interval_over: Literal["utterance", "speaker"] = "utterance",
) -> list[Summary]:
    """A line per (attack, hyper-parameters, ε) and part, in that order; ε from weak to strong.

    Args:
      rows: with the SCHEMA.
      by: one of PARTS, or None for no split.
      interval_over: what the bootstrap draws: utterances, or whole speakers.

    Raises:
      UsageError: unknown ``by``.
    """
    if by is not None and by not in PARTS:
        raise UsageError(f"tables cannot be split by {by!r}; {nearest_name(by, PARTS)}")
    keys = ["attack", "parameters", "seed", "epsilon_unit", "epsilon"]
    keys += [PARTS[by]] if by else []
    lines = []
    for values in sorted(rows.group_by(keys).aggregate([]).select(keys).to_pylist(), key=_order):
        chosen = np.ones(len(rows), bool)
        for key, value in values.items():
            chosen &= np.asarray(pc.equal(rows[key], pa.scalar(value, rows[key].type)))
        part = values[PARTS[by]] if by else ""
        lines.append(_summary(rows.filter(pa.array(chosen)), part, interval_over))
    return lines


def format_table(lines: Sequence[Summary]) -> str:
    """Aligned text of a summary, with the notes a reader needs to read it right."""
    split = any(line.part for line in lines)
    targeted = any(json.loads(line.parameters).get("targeted") for line in lines)
    found = any(line.found for line in lines)
    heard = any(not math.isnan(line.stoi) for line in lines)
    cells = [
        _header(split, targeted, heard, found),
        *(_cells(line, split, targeted, heard, found) for line in lines),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    text = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    text.append(
        "robust figures with 95% bootstrap intervals; fooled: prediction changed, of all rows; "
        "on correct: attack succeeded, of the rows that were right before"
    )
    text.append(
        f"SNR (dB, mean/median){', STOI' if heard else ''} and sparsity over the successful rows "
        "alone: the prediction changed to what the attack wanted"
    )
    if found:
        text.append(
            "found: an adversarial perturbation of whatever size; smallest: its norm (mean/median) "
            "over the rows that needed one"
        )
    text += _remarks(lines)
    return "\n".join(text)


def _order(values: Mapping[str, Any]) -> tuple[Any, ...]:
    # A larger SNR is a smaller perturbation.
    sign = 1.0 if values["epsilon_unit"] == "amplitude" else -1.0
    ordered = {**values, "epsilon": sign * values["epsilon"]}
    return tuple("" if value is None else value for value in ordered.values())


def _summary(rows: pa.Table, part: str, interval_over: Literal["utterance", "speaker"]) -> Summary:
    label, clean, robust = (
        np.array(rows[name].to_pylist(), object)
        for name in ("label", "clean_prediction", "prediction")
    )
    success = _column(rows, "success").astype(bool)
    right, changed = clean == label, robust != clean
    successful = success & changed
    snr = {name: _column(rows, name)[successful] for name in ("snr_peak", "snr_power")}
    groups = rows["speaker"].to_pylist() if interval_over == "speaker" else None
    found = _column(rows, "found_norm")
    flags: dict[str, int] = {}
    for name in (flag for each in rows["flags"].to_pylist() for flag in each):
        flags[name] = flags.get(name, 0) + 1
    return Summary(
        attack=rows["attack"][0].as_py(),
        parameters=rows["parameters"][0].as_py(),
        epsilon=rows["epsilon"][0].as_py(),
        epsilon_unit=rows["epsilon_unit"][0].as_py(),
        epsilon_norm=rows["epsilon_norm"][0].as_py(),
        part=part,
        rows=len(rows),
        clean_accuracy=_estimate(accuracy, label, clean, groups),
        clean_uar=_estimate(uar, label, clean, groups),
        robust_accuracy=_estimate(accuracy, label, robust, groups),
        robust_uar=_estimate(uar, label, robust, groups),
        fooling_rate=float(changed.mean()),
        success_rate=float(success.mean()),
        correct=int(right.sum()),
        success_on_correct=mean_of_defined(success[right]),
        successful=int(successful.sum()),
        snr_peak_mean=mean_of_defined(snr["snr_peak"]),
        snr_peak_median=_median(snr["snr_peak"]),
        snr_power_mean=mean_of_defined(snr["snr_power"]),
        snr_power_median=_median(snr["snr_power"]),
        stoi=mean_of_defined(_column(rows, "stoi")[successful]),
        snr_undefined=int(np.isnan(snr["snr_peak"]).sum()),
        sparsity=mean_of_defined(_column(rows, "sparsity")[successful]),
        linf=mean_of_defined(_column(rows, "linf")[successful]),
        l2=mean_of_defined(_column(rows, "l2")[successful]),
        found=int((~np.isnan(found)).sum()),
        found_norm_mean=mean_of_defined(found[found > 0]),
        found_norm_median=_median(found[found > 0]),
        queries=mean_of_defined(_column(rows, "queries")),
        gradients=mean_of_defined(_column(rows, "gradients")),
        no_prediction=int(sum(each is None for each in robust)),
        flags=flags,
        rows_per_second=_ratio(len(rows), float(_column(rows, "seconds").sum())),
        compile_seconds=float(_column(rows, "compile_seconds").max()),
        compile_count=int(_column(rows, "compile_count").max()),
    )


def _estimate(
    metric: Any, label: np.ndarray, predicted: np.ndarray, groups: Sequence[str] | None
) -> Estimate:
    # A missing prediction is a class of its own, which no utterance belongs to: always wrong.
    names = sorted({*label, *(each for each in predicted if each is not None)})
    index = {name: i for i, name in enumerate(names)} | {None: len(names)}
    truth = np.array([index[each] for each in label])
    guess = np.array([index[each] for each in predicted])
    count = len(names) + 1
    low, high = bootstrap_interval(metric, truth, guess, count, groups=groups)
    return Estimate(float(metric(confusion_matrix(truth, guess, count))), low, high)


def _column(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy())


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the defined values; NaN where there is none."""
    defined = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(defined.mean()) if len(defined) else float("nan")


def _median(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if len(defined) else float("nan")


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")


def _header(split: bool, targeted: bool, heard: bool, found: bool) -> list[str]:
    return [
        "attack",
        "epsilon",
        *(["part"] if split else []),
        "rows",
        "clean acc",
        "clean UAR",
        "robust acc",
        "robust UAR",
        "fooled",
        "on correct",
        *(["target reached"] if targeted else []),
        "SNR peak",
        "SNR power",
        "sparsity",
        *(["STOI"] if heard else []),
        *(["found", "smallest"] if found else []),
        "passes",
        "rows/s",
    ]


def _cells(line: Summary, split: bool, targeted: bool, heard: bool, found: bool) -> list[str]:
    return [
        line.attack,
        f"{line.epsilon:g}{EPSILON_UNITS[line.epsilon_unit]}",
        *([line.part] if split else []),
        str(line.rows),
        _percent(line.clean_accuracy.value),
        _percent(line.clean_uar.value),
        _interval(line.robust_accuracy),
        _interval(line.robust_uar),
        _percent(line.fooling_rate),
        _percent(line.success_on_correct),
        *([_percent(line.success_rate)] if targeted else []),
        f"{_number(line.snr_peak_mean)}/{_number(line.snr_peak_median)}",
        f"{_number(line.snr_power_mean)}/{_number(line.snr_power_median)}",
        _percent(line.sparsity),
        *([_stoi(line.stoi)] if heard else []),
        *([_percent(line.found / line.rows), _smallest(line)] if found else []),
        _number(line.queries),
        _number(line.rows_per_second),
    ]


def _stoi(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _smallest(line: Summary) -> str:
    if math.isnan(line.found_norm_mean):
        return "n/a"
    return f"{line.epsilon_norm} {line.found_norm_mean:.3g}/{line.found_norm_median:.3g}"


def _remarks(lines: Sequence[Summary]) -> Iterator[str]:
    undefined = sum(line.snr_undefined for line in lines)
    if undefined:
        yield f"{undefined} successful rows have no SNR: no signal, or no perturbation"
    flags: dict[str, int] = {}
    for line in lines:
        for name, count in line.flags.items():
            flags[name] = flags.get(name, 0) + count
    for name, count in sorted(flags.items()):
        yield f"{count} of {sum(line.rows for line in lines)} rows flagged: {name}"


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1%}"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "n/a"
    return f"{estimate.value:.1%} ({estimate.low:.1%}–{estimate.high:.1%})"


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1f}"
