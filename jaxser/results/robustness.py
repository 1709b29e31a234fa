"""What attacks left of a victim, from rows of one setting: the figures that all commands print.

    found = Robustness(classes, label, clean, found, success, seeds, targeted, units)
    found.after["accuracy"], found.fooled, found.on_correct, found.worst

Success has three meanings, each with a name of its own: the fooling rate ("fooled", the share of
all rows whose prediction changed, the ASR of STAA-Net, arXiv 2402.01227), robust accuracy, and
success on the rows that were right before ("on correct"). Whether a target was reached is a fourth
thing, which attacks without one have no figure of ("target reached"). A row that was wrong before
and stayed so is a success of nobody.

Rows of several seeds are pooled, an utterance counting as the mean of its rows. What the seed does
is told beside that: the deviation over seeds, and the worst of all seeds for every utterance.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from jaxser.results.estimate import Estimate
from jaxser.results.intervals import estimates, share
from jaxser.results.metrics import METRICS, uar
from jaxser.results.units import Units

__all__ = ["Robustness", "Worst"]


@dataclasses.dataclass(frozen=True)
class Worst:
    """Of every utterance the seed that was worst for the victim.

    Attributes:
      accuracy, uar: an utterance counts as right where it is right under all seeds.
      fooled: share of utterances whose prediction some seed changed.
      on_correct: of the utterances that were right before under all seeds, the share that some seed
        succeeded on.
      reached: share of utterances where some seed reached the target; NaN without a target.
    """

    accuracy: Estimate
    uar: Estimate
    fooled: Estimate
    on_correct: Estimate
    reached: Estimate


@dataclasses.dataclass(frozen=True, eq=False)
class Robustness:
    """Outcomes of rows of one setting; an entry per row.

    Attributes:
      classes: names.
      label, clean, found: truth, and predictions before and after the attack, as places among
        ``classes``; one more than there are for logits that are not finite.
      success: the attack reached its goal: left the attacked label, or reached the target.
      seeds: of the rows.
      targeted: whether there is a target.
      units: of the rows.
    """

    classes: tuple[str, ...]
    label: Int[np.ndarray, " rows"]
    clean: Int[np.ndarray, " rows"]
    found: Int[np.ndarray, " rows"]
    success: Bool[np.ndarray, " rows"]
    seeds: Int[np.ndarray, " rows"]
    targeted: bool
    units: Units

    @functools.cached_property
    def before(self) -> Mapping[str, Estimate]:
        """Metrics of the clean speech, by name."""
        return estimates(METRICS, self.label, self.clean, self.classes, self.units)

    @functools.cached_property
    def after(self) -> Mapping[str, Estimate]:
        """Metrics of the adversarial speech, by name."""
        return estimates(METRICS, self.label, self.found, self.classes, self.units)

    @property
    def accuracies(self) -> tuple[Estimate, Estimate]:
        """Before and after, alone: without the draws that other metrics need."""
        return share(self.clean == self.label, self.units), self.robust_accuracy

    @functools.cached_property
    def robust_accuracy(self) -> Estimate:
        """After the attack, alone."""
        return share(self.found == self.label, self.units)

    @property
    def changed(self) -> Bool[np.ndarray, " rows"]:
        """Whether the prediction is another than before."""
        return np.asarray(self.found != self.clean)

    @functools.cached_property
    def fooled(self) -> Estimate:
        """Fooling rate: the share of all whose prediction changed."""
        return share(self.changed, self.units)

    @functools.cached_property
    def on_correct(self) -> Estimate:
        """Success of the attack, of what was right before; NaN without any."""
        return share(self.success, self.units, of=self.clean == self.label)

    @functools.cached_property
    def reached(self) -> Estimate:
        """The share that the attack took to its target; NaN without a target."""
        # A share of none is undefined.
        return share(self.success, self.units, of=np.full(len(self.label), self.targeted))

    @functools.cached_property
    def by_seed(self) -> dict[int, float]:
        """Robust accuracy of each seed."""
        right = self.found == self.label
        return {
            seed: share(right[its], self.units.take(its)).value
            for seed in np.unique(self.seeds).tolist()
            for its in [np.flatnonzero(self.seeds == seed)]
        }

    @property
    def deviation(self) -> float:
        """Standard deviation of robust accuracy over the seeds as a sample; NaN of one seed."""
        values = list(self.by_seed.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    @functools.cached_property
    def worst(self) -> Worst:
        """Of every utterance the worst seed."""
        # One entry per utterance from here on.
        units = self.units.each_once()
        right, known = (
            self.units.means(each == self.label) == 1 for each in (self.found, self.clean)
        )
        fooled, success = (self.units.means(each) > 0 for each in (self.changed, self.success))
        label = np.zeros(len(self.units), np.int64)
        label[self.units.utterance] = self.label
        seen = np.where(right, label, -1)
        return Worst(
            accuracy=share(right, units),
            uar=estimates({"UAR": uar}, label, seen, self.classes, units)["UAR"],
            fooled=share(fooled, units),
            on_correct=share(success, units, of=known),
            reached=share(success, units, of=np.full(len(units), self.targeted)),
        )
