"""The attacked inputs on the host.

source = Source(waveforms, subset=None, ids=["03a01Fa", "03a01Nc"])
source.batch(np.array([1, 0]))                                      # [2, ...] float32
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt

from jaxser.attacks.projections import Bounds
from jaxser.corpora.table import numeric_id
from jaxser.driver.samples import check_samples, scaled
from jaxser.runtime.errors import InputError

__all__ = ["Source"]


class Source:
    """The attacked inputs, read batch by batch.

    Args:
      waveforms: clean inputs ``[batch, ...]``; a memory map is read batch by batch.
      subset: positions to attack; all by default.
      ids: one name or number per attacked input; its position by default.
      bounds: valid range of an input, or None; integers are scaled as :func:`scaled` says.

    Raises:
      InputError: nothing to attack, inputs that are no samples, or ids that do not fit.
    """

    def __init__(
        self,
        waveforms: Float[Any, "batch ..."],
        subset: Int[np.ndarray, " rows"] | None = None,
        ids: Sequence[str] | Sequence[int] | None = None,
        bounds: Bounds = (-1.0, 1.0),
    ) -> None:
        self._waveforms, self._bounds = waveforms, bounds
        check_samples(np.dtype(waveforms.dtype), self.input_shape, bounds)
        self._subset = np.arange(len(waveforms)) if subset is None else np.asarray(subset)
        if len(self._subset) == 0:
            raise InputError("there is nothing to attack: the selection has no utterance.")
        if ids is not None and len(ids) != len(self):
            raise InputError(
                f"there are {len(self)} inputs but {len(ids)} ids; give one per input."
            )
        self._names = ids

    def __len__(self) -> int:
        return len(self._subset)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._waveforms.shape[1:])

    @property
    def ids(self) -> UInt[np.ndarray, " rows"]:
        """What the randomness of each input depends on."""
        names = range(len(self)) if self._names is None else self._names
        return np.array([_number(each) for each in names], np.uint32)

    def name(self, row: int) -> str:
        """What an error calls an input."""
        if self._names is None:
            return f"waveforms[{int(self._subset[row])}]"
        return f"utterance {self._names[row]}"

    def batch(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows ..."]:
        return scaled(np.asarray(self._waveforms[self._subset[rows]]), self._bounds)


def _number(name: str | int) -> int:
    """What the randomness of an input depends on."""
    if isinstance(name, str):
        return numeric_id(name)
    try:
        number = operator.index(name)
    except TypeError:
        raise InputError(f"an id must be a name or a whole number, not {name!r:.80}.") from None
    # What does not fit into 32 bits must not have the randomness of what does.
    return number if 0 <= number < 2**32 else numeric_id(str(number))
