"""Rows of several seeds and ε, one of them twice, a class that nobody has, and their figures.

Everything is counted here in plain Python, an utterance at a time, by nothing of the package.
"""

import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from made_rows import NAN, columns
from scipy.stats import binomtest

Row = dict[str, Any]

SEEDS = (0, 1, 2)
EPSILONS = (0.01, 0.1)
_NAMES = {"a": "anger", "j": "joy", "s": "sad", "f": "fear", "-": None}

# Id, speaker, gender, label and clean prediction; the predictions of the three seeds at each ε, of
# the victim itself and of another one that hears the same. Nobody's label is fear.
_OUTCOMES = [
    ("u0", "s0", "female", "a", "a", ("aaa", "jfj"), ("aaa", "aaj")),
    ("u1", "s0", "female", "a", "j", ("jja", "jjj"), ("aaa", "jjj")),  # wrong before
    ("u2", "s1", "female", "j", "j", ("jjj", "aja"), ("jjj", "jjj")),
    ("u3", "s1", "female", "j", "j", ("jaj", "sss"), ("jjj", "aaa")),
    ("u4", "s2", "male", "s", "s", ("sss", "s-f"), ("sss", "sss")),  # logits not finite
    ("u5", "s2", "male", "s", "s", ("sfs", "fff"), ("sss", "sfs")),
    ("u6", "s3", "male", "s", "a", ("aas", "aaa"), ("aas", "aaa")),  # wrong before
    ("u7", "s3", "male", "j", "j", ("jjj", "jjj"), ("jjj", "jjj")),
]


def made(
    victim: str = "emo18 runs/x", attack: str = "pgd", seeds: Sequence[int] = SEEDS
) -> list[Row]:
    """The rows of one victim, each once, with all columns of the schema."""
    rows: list[Row] = []
    for place, (name, speaker, gender, label, clean, own, heard) in enumerate(_OUTCOMES):
        outcomes = own if victim == "emo18 runs/x" else heard
        for (epsilon, predictions), seed in itertools.product(
            zip(EPSILONS, outcomes, strict=True), seeds
        ):
            prediction = _NAMES[predictions[seed]]
            success = prediction is not None and prediction != _NAMES[label]
            hand = (
                *(_NAMES[label], _NAMES[clean], prediction, success),
                *(20.0 + place + 10 * seed, 0.1 * (1 + place), gender),
            )
            changes = {"epsilon": epsilon, "seed": seed, "victim": victim, "attack": attack}
            changes |= {"victim_fingerprint": victim, "queries": 10 * (1 + place) + seed}
            row = {k: v[0] for k, v in columns([hand], **changes).items()}
            rows.append({**row, "utterance": name, "source": name, "speaker": speaker})
    return rows


def as_columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """For a table or a file; the first row of each ε is there twice."""
    twice = [next(row for row in rows if row["epsilon"] == epsilon) for epsilon in EPSILONS]
    return {name: [row[name] for row in [*rows, *twice]] for name in rows[0]}


def per_utterance(rows: Sequence[Row], of: Callable[[Row], float]) -> dict[str, float]:
    """Mean over the rows of every utterance."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["utterance"], []).append(float(of(row)))
    return {name: sum(values) / len(values) for name, values in found.items()}


def share(rows: Sequence[Row], of: Callable[[Row], bool]) -> float:
    values = per_utterance(rows, of).values()
    return sum(values) / len(values) if values else NAN


def right_before(row: Row) -> bool:
    return bool(row["clean_prediction"] == row["label"])


def right_after(row: Row) -> bool:
    return bool(row["prediction"] == row["label"])


def changed(row: Row) -> bool:
    return bool(row["prediction"] != row["clean_prediction"])


def on_correct(rows: Sequence[Row]) -> float:
    return share([row for row in rows if right_before(row)], lambda row: row["success"])


def recall_mean(rows: Sequence[Row], column: str) -> float:
    """UAR: over the classes that somebody has."""
    recalls = [
        share(
            [row for row in rows if row["label"] == label], lambda row: row[column] == row["label"]
        )
        for label in sorted({row["label"] for row in rows})
    ]
    return sum(recalls) / len(recalls)


def f1_mean(rows: Sequence[Row], column: str) -> float:
    """Macro F1: over the classes that occur as truth or as prediction; no prediction is none."""
    count = len({row["utterance"] for row in rows})
    scores = []
    for name in ("anger", "fear", "joy", "sad"):
        hits = share(rows, lambda row: row[column] == name == row["label"]) * count  # noqa: B023
        labels = share(rows, lambda row: row["label"] == name) * count  # noqa: B023
        guesses = share(rows, lambda row: row[column] == name) * count  # noqa: B023
        if labels + guesses:
            scores.append(2 * hits / (labels + guesses))
    return sum(scores) / len(scores)


def over_seeds(rows: Sequence[Row]) -> float:
    """Standard deviation of robust accuracy."""
    seeds = sorted({row["seed"] for row in rows})
    values = [share([row for row in rows if row["seed"] == s], right_after) for s in seeds]
    return statistics.stdev(values) if len(values) > 1 else NAN


def worst(rows: Sequence[Row]) -> list[Row]:
    """A row for every utterance, of the outcome that is worst for the victim under any seed."""
    found: list[Row] = []
    for name in sorted({row["utterance"] for row in rows}):
        its = [row for row in rows if row["utterance"] == name]
        wrong = [row for row in its if not right_after(row)]
        one = dict((wrong or its)[0])
        one["fooled"] = any(changed(row) for row in its)
        one["success"] = any(row["success"] for row in its)
        found.append(one)
    return found


def interval(
    rows: Sequence[Row], figure: Callable[[Sequence[Row]], float], unit: str
) -> tuple[float, float]:
    """Of whole utterances or speakers, drawn one by one."""
    rng = random.Random(0)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[unit], []).append(row)
    values = []
    for _ in range(600):
        drawn = []
        for place in range(len(groups)):
            picked = groups[rng.choice(sorted(groups))]
            # One that is drawn twice is two.
            drawn += [{**row, "utterance": f"{row['utterance']}/{place}"} for row in picked]
        values.append(figure(drawn))
    values = sorted(value for value in values if not math.isnan(value))
    return values[round(0.025 * (len(values) - 1))], values[round(0.975 * (len(values) - 1))]


def wilson(right: float, of: int) -> tuple[float, float]:
    found = binomtest(round(right), of).proportion_ci(method="wilson")
    return found.low, found.high
