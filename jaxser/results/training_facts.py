"""How a victim came about, as its rows tell: what it was trained against, and what that took.

facts = TrainingFacts(defence="trained against pgd, ε 0.002 (trades)", seconds=812.4)
facts.columns()["defence"]                      # of the row schema
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["KINDS", "UNRECORDED", "TrainingFacts"]

# What a training took, and what kind of value says it.
KINDS: dict[str, type] = {
    "seconds": float,
    "compile_seconds": float,
    "device": str,
    "queries": int,
    "gradients": int,
}


@dataclasses.dataclass(frozen=True)
class TrainingFacts:
    """Of one victim; what nobody has recorded is NaN or None, as of a pretrained one.

    Attributes:
      defence: what it was trained against, in words; None where against nothing.
      seconds: of the training, over all its starts, without compilation.
      compile_seconds: that the first updates of all its starts took.
      device: that the last start trained on.
      queries: forward passes of all updates, each of one utterance.
      gradients: backward passes likewise.
    """

    defence: str | None = None
    seconds: float = math.nan
    compile_seconds: float = math.nan
    device: str | None = None
    queries: int | None = None
    gradients: int | None = None

    @property
    def unrecorded(self) -> bool:
        """Whether nothing is known of it."""
        return self.defence is None and self.queries is None and math.isnan(self.seconds)

    def columns(self) -> dict[str, Any]:
        """The columns of the row schema that say it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"defence": values.pop("defence")} | {f"training_{k}": v for k, v in values.items()}

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "TrainingFacts":
        """From the columns, of which any may be None."""
        known = {
            name.removeprefix("training_"): value
            for name, value in columns.items()
            if value is not None
        }
        return cls(**{name: KINDS.get(name, str)(value) for name, value in known.items()})

    def cost(self) -> str:
        """What the training took, in words; "" where nobody has recorded it."""
        if self.queries is None or self.gradients is None:
            return ""
        took = "" if math.isnan(self.seconds) else f"{self.seconds:,.1f} s"
        if took and not math.isnan(self.compile_seconds):
            took += f" after {self.compile_seconds:,.1f} s of compilation"
        if took and self.device:
            took += f" on {self.device}"
        passes = f"{self.queries:,} forward and {self.gradients:,} backward passes of an utterance"
        return f"{took}, {passes}" if took else passes


# Of a victim that no run folder tells of.
UNRECORDED = TrainingFacts()
