"""Certificates on disk: one row per utterance, and how accurate they say that a victim is.

    table = read_certificates("runs/emo18/certificates/1a2b3c4d")      # pyarrow
    certified_accuracy(table, [0.0, 0.01, 0.02])                       # an Estimate for each radius

``docs/certificates.md`` says what the columns are and what they prove.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share
from jaxser.results.reading import check_digest
from jaxser.results.smoothing_bounds import certified_radius, lower_bound, vote
from jaxser.results.units import Over, Units
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import one_line

__all__ = [
    "CERTIFICATES",
    "KIND",
    "abstained",
    "certified_accuracy",
    "certified_columns",
    "clean_accuracy",
    "has_certificates",
    "only",
    "plain_accuracy",
    "power_snr",
    "read_certificates",
]

# What names of the files begin with, so that nobody takes them for rows of attacks.
KIND = "certificates"

CERTIFICATES = pa.schema(
    [
        ("victim", pa.string()),
        ("victim_fingerprint", pa.string()),  # of the variables: the noise is not among them
        ("defence", pa.string()),  # as in rows; null in certificates of older versions too
        ("corpus", pa.string()),
        ("language", pa.string()),
        ("synthetic", pa.bool_()),
        ("notes", pa.list_(pa.string())),
        ("split", pa.string()),
        ("domain", pa.string()),  # that the noise is added to, and that the radius is of
        ("utterance", pa.string()),
        ("source", pa.string()),
        ("speaker", pa.string()),
        ("gender", pa.string()),
        ("label", pa.string()),
        ("clean_prediction", pa.string()),  # without noise; null where logits are not finite
        ("prediction", pa.string()),  # of the smoothed victim; null where it abstains
        ("certified", pa.string()),  # the class that the radius is of; null where there is none
        ("p_lower", pa.float64()),
        ("radius", pa.float64()),  # L2; NaN where nothing is certified
        ("radius_snr", pa.float64()),  # power SNR in dB of a perturbation so large; NaN likewise
        ("input_norm", pa.float64()),  # L2, of the clean input
        ("selection_counts", pa.list_(pa.int64())),  # by class, and the last one for no answer
        ("counts", pa.list_(pa.int64())),
        ("classes", pa.list_(pa.string())),
        ("sigma", pa.float64()),
        ("samples0", pa.int64()),
        ("samples", pa.int64()),
        ("alpha", pa.float64()),
        ("seed", pa.int64()),
        ("passes", pa.int64()),
        ("device", pa.string()),
        ("seconds", pa.float64()),  # steady state
    ]
)


def certified_columns(
    selection: Int[np.ndarray, "rows answers"],
    counts: Int[np.ndarray, "rows answers"],
    classes: Sequence[str],
    sigma: float,
    alpha: float,
) -> dict[str, Any]:
    """What the counts of some utterances prove, as columns of the schema.

    Args:
      selection: of the draws that choose a class; the last answer is none.
      counts: of the others.
      classes: names.
      sigma: of the noise.
      alpha: how often a bound, or a vote, may be wrong.
    """
    names = np.array([*classes, None], object)
    total = counts.sum(axis=1)
    # No answer is none that could be certified, and yet takes part in the vote.
    chosen = selection[:, :-1].argmax(axis=1)
    p_lower = lower_bound(counts[np.arange(len(counts)), chosen], total, alpha)
    radius = certified_radius(sigma, p_lower)
    return {
        "prediction": names[vote(counts, alpha)].tolist(),
        "certified": names[np.where(np.isnan(radius), len(classes), chosen)].tolist(),
        "p_lower": p_lower,
        "radius": radius,
        "selection_counts": list(selection),
        "counts": list(counts),
        "classes": [list(classes)] * len(counts),
    }


def has_certificates(folder: Path | str) -> bool:
    """Whether there are any in a folder or inside it."""
    return any(Path(folder).rglob(f"{KIND}-*.parquet"))


def read_certificates(folder: Path | str) -> pa.Table:
    """All certificates in a folder and those inside it, in the order in which they were written.

    Raises:
      InputError: there are none, or a file that is damaged or of another layout.
      OSError: a file that cannot be read.
    """
    tables = []
    paths = sorted(Path(folder).rglob(f"{KIND}-*.parquet"), key=lambda path: (path.name, path))
    for path in paths:
        content = path.read_bytes()
        try:
            check_digest(path, content)
            table = pq.read_table(pa.BufferReader(content))
            if "defence" not in table.schema.names:
                nothing = pa.nulls(len(table), pa.string())
                table = table.add_column(
                    CERTIFICATES.get_field_index("defence"), "defence", nothing
                )
            if table.schema.names != CERTIFICATES.names:
                raise ValueError("its columns are others")
            table = table.cast(CERTIFICATES).replace_schema_metadata(None)
            table.validate(full=True)
            _check_values(table)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path} is not a file of certificates ({one_line(error)}); delete it and run "
                "python -m jaxser.certify again, which makes what is missing."
            ) from None
        tables.append(table)
    if not tables:
        raise InputError(f"{folder} holds no {KIND}-*.parquet; run python -m jaxser.certify first.")
    return pa.concat_tables(tables)


def _check_values(table: pa.Table) -> None:
    """Refuse a file without rows, which no run writes, and rows without what every row has."""
    if not len(table):
        raise ValueError("it has no rows")
    for name in ("victim", "victim_fingerprint", "utterance", "label", "sigma", "samples", "alpha"):
        if table[name].null_count:
            raise ValueError(f"{table[name].null_count} of its rows have no {name}")


def certified_accuracy(
    table: pa.Table, radii: Sequence[float], over: Over = "utterance"
) -> list[Estimate]:
    """For each radius the share of utterances whose label is certified at least so far.

    Args:
      table: of one set of settings, each utterance once.
      radii: L2 norms.
      over: what intervals are over.
    """
    right = _same(table, "certified")
    radius, units = table["radius"].to_numpy(), _units(table, over)
    # NaN, of what is not certified, reaches nowhere.
    return [share(right & (radius >= each), units) for each in radii]


def clean_accuracy(table: pa.Table, over: Over = "utterance") -> Estimate:
    """Of the smoothed victim on clean speech; an abstention is wrong."""
    return share(_same(table, "prediction"), _units(table, over))


def plain_accuracy(table: pa.Table, over: Over = "utterance") -> Estimate:
    """Of the victim without noise on clean speech."""
    return share(_same(table, "clean_prediction"), _units(table, over))


def abstained(table: pa.Table, over: Over = "utterance") -> Estimate:
    """The share of clean utterances to which the smoothed victim gives no answer."""
    return share(table["prediction"].is_null().to_numpy(), _units(table, over))


def _same(table: pa.Table, column: str) -> Bool[np.ndarray, " rows"]:
    return np.asarray(_objects(table, column) == _objects(table, "label"), bool)


def _objects(table: pa.Table, column: str) -> np.ndarray:
    return np.array(table[column].to_pylist(), object)


def _units(table: pa.Table, over: Over) -> Units:
    return Units.of(
        np.array(table["utterance"].to_pylist()),
        table["speaker"].to_pylist(),
        over,
        sources=np.array(table["source"].to_pylist()),
    )


def power_snr(
    radius: Float[np.ndarray, " rows"], x_norm: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Power SNR in dB of a perturbation as long as the radius; NaN of silence, infinite of none.

    Args:
      radius: L2 norms; NaN where there is none.
      x_norm: L2 norms of the speech.
    """
    with np.errstate(divide="ignore"):
        return 20 * np.log10(np.where(x_norm > 0, x_norm, np.nan) / radius)


def only(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """The rows that agree with some facts."""
    keep = np.ones(len(table), bool)
    for name, value in facts.items():
        keep &= np.array([each == value for each in table[name].to_pylist()], bool)
    return table.filter(pa.array(keep))
