"""Settings: the rows of one victim, attack and ε, with their figures.

for setting in rows.settings: setting.figures["accuracy"], setting.fooled, setting.seeds
by(rows.settings, "victim", "corpus")            # those that agree in something
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from jaxser.reporting.coded import numbered
from jaxser.reporting.grouping import grouped
from jaxser.results.cells import Cell
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share
from jaxser.results.metrics import METRICS, confusion_matrix, mean_of_defined
from jaxser.results.robustness import Robustness
from jaxser.results.schema import epsilon_order, epsilon_unit_text

if TYPE_CHECKING:
    from jaxser.reporting.rows import Rows

__all__ = [
    "ABOUT",
    "LINE",
    "SETTING",
    "TARGET",
    "Setting",
    "about",
    "accuracies",
    "by",
    "by_label",
    "epsilon_text",
    "named_classes",
    "settings_of",
    "speech",
    "strength",
    "strongest",
]

# What a goal begins with that is a label to reach.
TARGET = "→"

# Columns whose means a setting has, over the rows that changed to what the attack wanted.
MEANS = (
    *("snr_peak", "snr_power", "sparsity", "stoi"),
    *("colour_distance", "decibel_change", "dead_gradients"),
)

# What a line of a table or a curve is of, beside the attack.
LINE = ("victim", "corpus", "split", "domain")

# Columns of :func:`about`; the norm is what ε counts, decibels included.
ABOUT = ("victim", "speech", "attack", "ε", "norm")

# What makes rows comparable: one setting each.
SETTING = (
    *("corpus", "split", "domain", "output", "victim", "threat", "attack", "parameters"),
    *("goal", "epsilon_unit", "epsilon_norm", "epsilon"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Rows of one victim, threat, attack, goal, ε, corpus, part and domain; all seeds together.

    Attributes:
      facts: by column of the row schema, and "goal" as :class:`Rows` has it.
      epsilon: as tables write it.
      label: of the attack, with the hyper-parameters that tell it from others of its name.
      where: places of its rows.
      classes: names, in the order of the matrices.
      before, after: confusion matrices of the clean and of the adversarial speech; the last row and
        column stand for logits that are not finite.
      outcomes: of its rows, and the figures and intervals made of them.
      means: over the rows that the attack changed as it wanted: SNRs, sparsity, STOI.
      gradients: mean backward passes; 0 of attacks that see none, and of noise.
      queries: 5 %, 50 %, 95 % and mean.
    """

    facts: Mapping[str, Any]
    epsilon: str
    label: str
    where: Int[np.ndarray, " rows"]
    classes: tuple[str, ...]
    before: Int[np.ndarray, "classes classes"]
    after: Int[np.ndarray, "classes classes"]
    outcomes: Robustness
    means: Mapping[str, float]
    gradients: float
    queries: tuple[float, float, float, float]

    @property
    def figures(self) -> dict[str, tuple[Estimate, Estimate]]:
        """By name of a metric, before and after the attack."""
        return {name: (self.outcomes.before[name], self.outcomes.after[name]) for name in METRICS}

    @property
    def robust_accuracy(self) -> Estimate:
        """After the attack, alone: without the draws that other metrics need."""
        return self.outcomes.robust_accuracy

    @property
    def fooled(self) -> float:
        """Fooling rate: the share of all whose prediction changed."""
        return self.outcomes.fooled.value

    @property
    def on_correct(self) -> float:
        """Success on what was right before; NaN without any."""
        return self.outcomes.on_correct.value

    @property
    def reached(self) -> float:
        """The share that was taken to the target; NaN of attacks without one."""
        return self.outcomes.reached.value

    @property
    def seeds(self) -> int:
        """How many; the rows of all are together."""
        return len(self.outcomes.by_seed)

    @property
    def utterances(self) -> int:
        """How many whole ones, whatever number of rows and chunks each has."""
        return self.outcomes.units.sources

    @property
    def noise(self) -> bool:
        """Whether it is no attack but noise, which attacks are compared with."""
        return bool(self.facts["attack"] == "noise")

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
    """Every attack at its strongest ε, on every victim."""
    lines = by_label(own, *LINE, "epsilon_unit", "epsilon_norm")
    return [max(line, key=strength) for line in lines.values()]


def strength(setting: Setting) -> float:
    """Sorts the ε of one unit from weak to strong."""
    return epsilon_order(setting.facts["epsilon_unit"], setting.facts["epsilon"])


def speech(setting: Setting) -> str:
    """Corpus and part, and the domain where it is not the waveform."""
    corpus, split, domain = (setting.facts[name] for name in ("corpus", "split", "domain"))
    return f"{corpus}, {split}" + ("" if domain == "waveform" else f", {domain}")


def about(setting: Setting) -> list[str]:
    """What a line of a table is of, in the columns of ``ABOUT``."""
    epsilon = setting.facts["epsilon"]
    text = Cell(setting.epsilon if math.isfinite(epsilon) else "no limit", {"": epsilon})
    return [setting.facts["victim"], speech(setting), setting.label, text, _unit(setting)]


def epsilon_text(setting: Setting) -> Cell:
    """ε with its unit: the norm that it bounds, or decibels."""
    unit = _unit(setting)
    return Cell(f"{setting.epsilon} {unit}", {"": setting.facts["epsilon"], "of": unit})


def _unit(setting: Setting) -> str:
    return epsilon_unit_text(setting.facts["epsilon_unit"], setting.facts["epsilon_norm"])


def accuracies(rows: "Rows", where: Int[np.ndarray, " rows"]) -> tuple[Estimate, Estimate]:
    """Before and after the attack, of any rows."""
    label, clean, found = named_classes(rows, where)
    units = rows.units(where)
    return share(clean == label, units), share(found == label, units)


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
    missing = any((codes == len(classes)).any() for codes in (label, clean, found))
    before, after = (
        confusion_matrix(label, each, len(classes) + missing) for each in (clean, found)
    )
    outcomes = Robustness(
        classes=classes,
        label=label,
        clean=clean,
        found=found,
        success=rows.numbers["success"][where].astype(bool),
        seeds=rows.numbers["seed"][where].astype(np.int64),
        targeted=facts["goal"].startswith(TARGET),
        units=rows.units(where),
    )
    reached = where[outcomes.success & outcomes.changed]
    queries = rows.numbers["queries"][where]
    return Setting(
        facts=facts,
        epsilon=rows.epsilons[facts["epsilon"]],
        label=rows.label(*(facts[name] for name in ("attack", "parameters", "goal", "output"))),
        where=where,
        classes=(*classes, "none") if missing else classes,
        before=before,
        after=after,
        outcomes=outcomes,
        means={name: mean_of_defined(rows.numbers[name][reached]) for name in MEANS},
        gradients=float(rows.numbers["gradients"][where].mean()),
        queries=(*np.percentile(queries, [5, 50, 95]).tolist(), float(queries.mean())),
    )


def _classes(
    rows: "Rows", where: Int[np.ndarray, " rows"]
) -> tuple[tuple[str, ...], list[Int[np.ndarray, " rows"]]]:
    """Names in order, and truth and both predictions as places among them; one more for none."""
    columns = ("label", "clean_prediction", "prediction")
    named = {
        rows.names[column][code]
        for column in columns
        for code in np.unique(rows.texts[column][where])
        if code >= 0
    }
    classes = tuple(sorted(named))
    return classes, named_classes(rows, where, classes)


def named_classes(
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


def _order(setting: Setting) -> tuple[Any, ...]:
    facts = setting.facts
    fixed = [facts[name] for name in SETTING if name not in ("epsilon", "parameters", "attack")]
    return (*fixed, setting.label, strength(setting))
