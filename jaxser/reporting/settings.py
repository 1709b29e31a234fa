"""Settings: the rows of one victim, attack and ε, with their figures.

for setting in rows.settings: setting.figures["accuracy"], setting.fooled
by(rows.settings, "victim", "corpus")            # those that agree in something
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from jaxser.reporting.coded import numbered
from jaxser.reporting.grouping import grouped
from jaxser.results.intervals import Estimate, matrix_intervals
from jaxser.results.metrics import METRICS, confusion_matrix, mean_of_defined
from jaxser.results.schema import EPSILON_UNITS, epsilon_order

if TYPE_CHECKING:
    from jaxser.reporting.rows import Rows

__all__ = [
    "LINE",
    "SETTING",
    "Setting",
    "accuracies",
    "by",
    "by_label",
    "epsilon_text",
    "settings_of",
    "speech",
    "strongest",
]

# What a line of a table or a curve is of, beside the attack.
LINE = ("victim", "corpus", "split", "domain")

# What makes rows comparable: one setting each.
SETTING = (
    *("corpus", "split", "domain", "victim", "threat", "attack", "parameters"),
    *("goal", "epsilon_unit", "epsilon_norm", "epsilon"),
)


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


def settings_of(rows: "Rows") -> list[Setting]:
    """Every setting; ε from weak to strong."""
    return sorted((_setting_of(rows, where) for where in _places_by_setting(rows)), key=_order)


def by(settings: Sequence[Setting], *names: str) -> dict[tuple[Any, ...], list[Setting]]:
    """Settings by some of their facts, in order."""
    return grouped(settings, lambda setting: tuple(setting.facts[name] for name in names))


def by_label(settings: Sequence[Setting], *names: str) -> dict[Any, list[Setting]]:
    """By some facts and the attack's label; by the label alone without any."""

    def key(setting: Setting) -> Any:
        facts = tuple(setting.facts[name] for name in names)
        return (*facts, setting.label) if names else setting.label

    return grouped(settings, key)


def strongest(own: Sequence[Setting]) -> list[Setting]:
    """Every attack at its last ε, on every victim."""
    lines = by_label(own, *LINE, "epsilon_unit", "epsilon_norm")
    return [line[-1] for line in lines.values()]


def speech(setting: Setting) -> str:
    """Corpus and part, and the domain where it is not the waveform."""
    corpus, split, domain = (setting.facts[name] for name in ("corpus", "split", "domain"))
    return f"{corpus}, {split}" + ("" if domain == "waveform" else f", {domain}")


def epsilon_text(setting: Setting) -> str:
    """ε with its unit."""
    return f"{setting.facts['epsilon']:.4g}{EPSILON_UNITS[setting.facts['epsilon_unit']]}"


def accuracies(rows: "Rows", where: Int[np.ndarray, " rows"]) -> tuple[Estimate, Estimate]:
    """Before and after the attack, of any rows."""
    label, clean, found = _named(rows, where)
    before, after = (int((each == label).sum()) for each in (clean, found))
    return _share(before, len(where)), _share(after, len(where))


def _share(right: int, rows: int) -> Estimate:
    """Accuracy: two cells are enough to draw from, right and wrong."""
    # The multinomial of all cells, summed over the diagonal, is the binomial of these two.
    return _estimates(np.array([[right, rows - right], [0, 0]]))[0]


def _places_by_setting(rows: "Rows") -> list[Int[np.ndarray, " rows"]]:
    """Places of the rows of every setting."""
    coded = {name: (codes, rows.names[name]) for name, codes in rows.texts.items()}
    key = numbered(SETTING, coded, rows.numbers)
    # One sort of a million numbers in place of a comparison of all rows for every setting; stable,
    # so that the rows of a setting keep their order.
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _setting_of(rows: "Rows", where: Int[np.ndarray, " rows"]) -> Setting:
    """The figures of some rows of one setting."""
    first = where[0]
    facts: dict[str, Any] = {}
    for column in SETTING:
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
        on_correct=mean_of_defined(success[right]),
        success=float(success.mean()),
        means={
            name: mean_of_defined(rows.numbers[name][reached])
            for name in ("snr_peak", "snr_power", "sparsity", "stoi")
        },
        gradients=float(rows.numbers["gradients"][where].mean()),
        queries=(*np.percentile(queries, [5, 50, 95]).tolist(), float(queries.mean())),
    )


def _classes(
    rows: "Rows", where: Int[np.ndarray, " rows"]
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
    rows: "Rows", where: Int[np.ndarray, " rows"], classes: Sequence[str] | None = None
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
    # Arrays have no hash; their bytes do.
    return _estimates_of(matrix.tobytes(), len(matrix))


@functools.cache
def _estimates_of(counts: bytes, classes: int) -> list[Estimate]:
    """Of every metric; what a victim takes clean speech for is the same at every ε.

    Kept, as a sweep asks for the same matrix once for every setting, and each asking draws anew.
    """
    matrix = np.frombuffer(counts, np.int64).reshape(classes, classes)
    intervals = matrix_intervals(list(METRICS.values()), matrix)
    return [
        Estimate(float(metric(matrix)), low, high)
        for metric, (low, high) in zip(METRICS.values(), intervals, strict=True)
    ]


def _order(setting: Setting) -> tuple[Any, ...]:
    facts = setting.facts
    fixed = [facts[name] for name in SETTING if name not in ("epsilon", "parameters", "attack")]
    weakness = epsilon_order(facts["epsilon_unit"], facts["epsilon"])
    return (*fixed, setting.label, weakness)
