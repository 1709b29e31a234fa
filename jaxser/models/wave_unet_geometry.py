"""How a Wave-U-Net is laid out: its levels, its padding, and how many samples each level has."""

import dataclasses
import itertools
from typing import Literal

from jaxser.runtime.errors import UsageError

__all__ = ["Geometry"]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The fields of :class:`jaxser.models.wave_unet.WaveUNet` that say how large its arrays are.

    Raises:
      UsageError: the fields contradict each other.
    """

    widths: tuple[int, ...]
    kernel_size: int
    stride: int
    group_size: int
    padding: Literal["valid", "same"]

    def __post_init__(self) -> None:
        faults = []
        if len(self.widths) < 2:
            faults.append("widths are fewer than two levels")
        if self.group_size < 1:
            faults.append(f"group_size {self.group_size} is less than 1")
        elif any(width < 1 or width % self.group_size for width in self.widths):
            faults.append(f"widths {self.widths} are not multiples of group_size {self.group_size}")
        if self.kernel_size % 2 == 0:
            faults.append(f"kernel_size {self.kernel_size} is even and would shift the shortcuts")
        if not 2 <= self.stride <= self.kernel_size:
            faults.append(f"stride {self.stride} is not between 2 and kernel_size")
        if self.padding not in ("valid", "same"):
            faults.append(f"padding is {self.padding!r}, not valid or same")
        if faults:
            raise UsageError(f"such a waveunet cannot be built: {'; '.join(faults)}.")

    @property
    def strided_ends(self) -> tuple[int, int]:
        """Zeros around the input of a strided convolution; cropped off a transposed one."""
        if self.padding == "valid":
            return 0, 0
        beyond = self.kernel_size - self.stride
        return beyond // 2, beyond - beyond // 2

    def samples(self, num_samples: int) -> tuple[int, int]:
        """The samples that go in and come out, for ``num_samples`` that are wanted at least."""
        levels = len(self.widths) - 1
        if self.padding == "same":
            whole = self.stride**levels
            length = -(-num_samples // whole) * whole
            return length, length
        # Three convolutions of a level lose their ends on the way up, and so three on the way down.
        lost = self.kernel_size - 1
        # The fewest steps at the bottleneck that are enough.
        for bottleneck in itertools.count(1):
            length = bottleneck
            for _ in range(levels):
                length = (length - 1) * self.stride + 1 - 3 * lost
            if length >= num_samples:
                break
        needed = bottleneck + lost
        for _ in range(levels):
            needed = (needed - 1) * self.stride + 1 + 3 * lost
        return needed, length
