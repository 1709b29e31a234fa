"""What is certified of a smoothed victim over the L2 radius, below what attacks have left.

save_figure(certified_figure("emo18, EmoDB, test", certified, lines), "certified.png")
"""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from jaxser.reporting.empirical import Empirical
from jaxser.reporting.figures.canvas import column_figure, in_legend, shortened
from jaxser.results.estimate import Estimate

__all__ = ["certified_figure"]


def certified_figure(
    title: str,
    radii: Sequence[float],
    certified: Sequence[Estimate],
    lines: Sequence[Empirical] = (),
    plain: Estimate | None = None,
) -> Figure:
    """Certified accuracy over the radius with its band, and the accuracy that attacks have left.

    Args:
      title: of the figure.
      radii: L2 norms, from 0 up.
      certified: accuracies there.
      lines: of attacks.
      plain: accuracy of the victim without noise on clean speech: a grey line.
    """
    figure = column_figure(2.5 + 0.16 * (3 + len(lines)))
    axes = figure.subplots()
    axes.step(radii, [each.value for each in certified], where="pre", label="certified (smoothed)")
    axes.fill_between(
        radii,
        [each.low for each in certified],
        [each.high for each in certified],
        step="pre",
        alpha=0.2,
    )
    for line in lines:
        values = [each.value for each in line.accuracies]
        (drawn,) = axes.plot(line.epsilons, values, "--", marker=".", label=in_legend(line.label))
        low, high = ([getattr(each, end) for each in line.accuracies] for end in ("low", "high"))
        axes.fill_between(line.epsilons, low, high, alpha=0.1, color=drawn.get_color())
    if plain is not None:
        axes.axhline(plain.value, color="gray", linewidth=0.8, label="without noise or attack")
    furthest = max([0.0, *(max(line.epsilons) for line in lines)])
    if furthest > 2 * radii[-1]:
        # Attacks are drawn far beyond what can be certified.
        axes.set_xscale("symlog", linthresh=radii[-1])
        ticks = [0.0, *_round_numbers(radii[-1] / 2, furthest)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.set_xlim(0, max(radii[-1], furthest))
    axes.set_ylim(0, 1)
    axes.set_xlabel("L2 norm of the perturbation")
    axes.set_ylabel("accuracy")
    axes.set_title("\n".join(map(shortened, title.split("; "))), fontsize=8)
    axes.grid(alpha=0.6)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, [shortened(name) for name in names], loc="outside lower left",
    )  # fmt: skip
    return figure


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between; of a long way the powers alone."""
    digits = (1, 2, 5) if high < 1e3 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    numbers = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [number for number in numbers if low <= number <= high]
