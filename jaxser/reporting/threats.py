"""All attacks on one victim whose ε share an axis, and what is left of it utterance by utterance.

for threat in threats_of(rows):
    threat.worst(0.002)                     # share of utterances that withstand all attacks there
    threat.smallest(threat.attacks["pgd"])  # size of the smallest perturbation that fooled each
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.reporting.rows import Rows
from jaxser.reporting.settings import LINE, Setting, by, by_label, speech
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share
from jaxser.results.schema import epsilon_order, epsilon_unit_text
from jaxser.results.smallest import known_sizes, smallest_sizes, withstood
from jaxser.results.units import Units

__all__ = ["Threat", "strongest_first", "threats_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class Threat:
    """Settings of one victim, corpus, part, domain, unit and norm of ε, on its own speech.

    Attributes:
      rows: of the whole report.
      settings: ε from weak to strong, attack by attack.
    """

    rows: Rows
    settings: Sequence[Setting]

    @property
    def victim(self) -> str:
        """Its name."""
        return str(self.settings[0].facts["victim"])

    @property
    def speech(self) -> str:
        """Corpus and part, and the domain where it is not the waveform."""
        return speech(self.settings[0])

    @property
    def unit(self) -> str:
        """What ε counts, as a table says it."""
        return epsilon_unit_text(*self._axis)

    @property
    def falling(self) -> bool:
        """Whether a larger ε is a smaller perturbation, as in dB."""
        return self._axis[0] != "amplitude"

    @property
    def _axis(self) -> tuple[str, str]:
        facts = self.settings[0].facts
        return facts["epsilon_unit"], facts["epsilon_norm"]

    @functools.cached_property
    def attacks(self) -> dict[str, list[Setting]]:
        """By label, the strongest first: what leaves the least at the ε that most attacks share."""
        lines = by_label(self.settings)
        return dict(sorted(lines.items(), key=lambda each: self._left(each[1])))

    @functools.cached_property
    def epsilons(self) -> list[float]:
        """All that are finite, from weak to strong."""
        known = {s.facts["epsilon"] for s in self.settings if math.isfinite(s.facts["epsilon"])}
        return sorted(known, key=self.order)

    def order(self, epsilon: float) -> float:
        """Sorts ε from weak to strong; what :meth:`smallest` is compared with."""
        return epsilon_order(self._axis[0], epsilon)

    def at(self, epsilon: float) -> dict[str, Setting]:
        """The setting of every attack at one ε, the strongest first."""
        found = {
            label: setting
            for label, line in self.attacks.items()
            for setting in line
            if setting.facts["epsilon"] == epsilon
        }
        # Of two that leave as much, noise is not the attack.
        return dict(
            sorted(
                found.items(),
                key=lambda each: (each[1].robust_accuracy.value, each[1].noise),
            )
        )

    @functools.cached_property
    def where(self) -> Int[np.ndarray, " rows"]:
        """Places of all its rows, setting by setting."""
        return np.concatenate([setting.where for setting in self.settings])

    @functools.cached_property
    def units(self) -> Units:
        """Of those rows."""
        return self.rows.units(self.where)

    @functools.cached_property
    def fooled(self) -> Bool[np.ndarray, " rows"]:
        """Whether the victim is wrong after the attack."""
        outcomes = [setting.outcomes for setting in self.settings]
        return np.concatenate([each.found != each.label for each in outcomes])

    @functools.cached_property
    def wrong(self) -> Bool[np.ndarray, " rows"]:
        """Whether it is wrong without one."""
        outcomes = [setting.outcomes for setting in self.settings]
        return np.concatenate([each.clean != each.label for each in outcomes])

    @functools.cached_property
    def sizes(self) -> Float[np.ndarray, " rows"]:
        """Of what is known to fool the victim, on the axis of ε; inf where nothing is."""
        unit, norm = self._axis
        epsilons, norms, found = (
            self.rows.numbers[name][self.where] for name in ("epsilon", norm, "found_norm")
        )
        return known_sizes(unit, epsilons, norms, found, self.fooled)

    def rows_of(self, line: Sequence[Setting]) -> Int[np.ndarray, " some"]:
        """Places among :attr:`where` of the rows of some settings."""
        return np.concatenate([self._places[setting] for setting in line])

    @functools.cached_property
    def _places(self) -> Mapping[Setting, Int[np.ndarray, " some"]]:
        ends = np.cumsum([len(setting.where) for setting in self.settings])
        return {
            setting: np.arange(end - len(setting.where), end)
            for setting, end in zip(self.settings, ends.tolist(), strict=True)
        }

    def smallest(
        self, line: Sequence[Setting] | None = None, sizes: Float[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, " utterances"]:
        """Per utterance the smallest perturbation that fooled the victim.

        Args:
          line: settings, of one attack for instance; all by default.
          sizes: of what fooled the victim, of all rows, inf where nothing did; :attr:`sizes` by
            default.

        Returns:
          -inf where it is wrong without an attack, inf where nothing fooled it, and NaN for
          utterances that the settings were not run on.
        """
        sizes = self.sizes if sizes is None else sizes
        its = np.arange(len(self.where)) if line is None else self.rows_of(line)
        units = self.units
        part = dataclasses.replace(units, utterance=units.utterance[its])
        found = smallest_sizes(sizes[its], self.wrong[its], part)
        found[np.bincount(part.utterance, minlength=len(units)) == 0] = np.nan
        return found

    @functools.cached_property
    def smallest_of_all(self) -> Float[np.ndarray, " utterances"]:
        """:meth:`smallest` of all attacks, on the axis of ε."""
        return self.smallest()

    def withstood(
        self, epsilon: float
    ) -> tuple[Bool[np.ndarray, " utterances"], Bool[np.ndarray, " utterances"]]:
        """Which utterances are right whatever attack was run up to this ε, and which all attacks
        there were run on."""
        return self._withstood[epsilon]

    def worst(self, epsilon: float) -> Estimate:
        """The share of utterances that withstand all attacks up to this ε."""
        return self._worst[epsilon]

    # Over every finite ε, as a card, several tables and a picture ask for the same.
    @functools.cached_property
    def _withstood(self) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        found = {}
        for epsilon in self.epsilons:
            lines = [
                [s for s in line if s.facts["epsilon"] == epsilon] for line in self.attacks.values()
            ]
            attacks = [self.rows_of(line) for line in lines if line]
            found[epsilon] = withstood(
                self.smallest_of_all, self.order(epsilon), self.units, attacks
            )
        return found

    @functools.cached_property
    def _worst(self) -> dict[float, Estimate]:
        units = self.units.each_once()
        return {
            epsilon: share(right, units, of=attacked)
            for epsilon, (right, attacked) in self._withstood.items()
        }

    @functools.cached_property
    def clean(self) -> Estimate:
        """Accuracy without an attack, of the utterances that any attack was run on."""
        return share(~self.wrong, self.units)

    def clean_at(self, epsilon: float) -> Estimate:
        """Accuracy without an attack, of the utterances that all attacks at this ε were run on."""
        own = self._rows_at(epsilon)
        _, attacked = self.withstood(epsilon)
        own = own[attacked[self.units.utterance[own]]]
        return share(~self.wrong[own], self.units.take(own))

    def _rows_at(self, epsilon: float) -> Int[np.ndarray, " some"]:
        """Places among :attr:`where` of what was attacked at one ε."""
        return self.rows_of([s for s in self.settings if s.facts["epsilon"] == epsilon])

    def code(self, column: str) -> Int[np.ndarray, " utterances"]:
        """What a column of text says of every utterance, as a code."""
        found = np.empty(len(self.units), np.int64)
        found[self.units.utterance] = self.rows.texts[column][self.where]
        return found

    def _left(self, line: Sequence[Setting]) -> tuple[float, float]:
        """Sorts attacks: mean accuracy over the ε of this line, less what all leave there."""
        shared = [s for s in line if s.facts["epsilon"] in self.epsilons]
        if not shared:
            return math.inf, line[-1].robust_accuracy.value
        behind = [s.robust_accuracy.value - self._least[s.facts["epsilon"]] for s in shared]
        return sum(behind) / len(behind), line[-1].robust_accuracy.value

    @functools.cached_property
    def _least(self) -> dict[float, float]:
        """At every ε what the strongest attack there leaves."""
        found: dict[float, float] = {}
        for setting in self.settings:
            epsilon, value = setting.facts["epsilon"], setting.robust_accuracy.value
            found[epsilon] = min(value, found.get(epsilon, math.inf))
        return found


def threats_of(rows: Rows) -> list[Threat]:
    """One for every victim, speech, unit and norm of ε; what was transferred is left out.

    Of one victim those come first that most attacks were run on.
    """
    own = [setting for setting in rows.settings if not setting.transferred]
    found = []
    for line in by(own, *LINE).values():
        groups = by(line, "epsilon_unit", "epsilon_norm").values()
        its = [Threat(rows, group) for group in groups]
        found += sorted(its, key=lambda threat: -len(threat.attacks))
    return found


def strongest_first(threats: Sequence[Threat]) -> list[Setting]:
    """All settings of each threat: the strongest attack first, and its strongest ε."""
    return [
        setting
        for threat in threats
        for line in threat.attacks.values()
        for setting in reversed(line)
    ]
