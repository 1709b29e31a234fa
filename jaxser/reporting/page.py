"""What a page says of rows, in the order in which it says it.

made = sections(load([Path("runs/sweep")]), {})
"""

from collections.abc import Iterator, Mapping

from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.sections.answer import answer, chosen_epsilons
from jaxser.reporting.sections.cost import queries, speed
from jaxser.reporting.sections.curves import (
    epsilon_curves,
    loudness_curves,
    norm_curves,
    uar_curves,
)
from jaxser.reporting.sections.flow import confusions, flows
from jaxser.reporting.sections.robustness import before_attacks, by_epsilon, parts, robustness
from jaxser.reporting.sections.strength import (
    attacks_against_each_other,
    optimalities,
    victims_against_each_other,
)
from jaxser.reporting.sections.transfer import heat_maps, transfer
from jaxser.reporting.sections.victims import victims
from jaxser.reporting.threats import strongest_first, threats_of

__all__ = ["sections"]


def sections(rows: Rows, seconds: Mapping[str, str], epsilon: float | None = None) -> list[Section]:
    """All that rows say, in the order of the page: the answer first.

    Args:
      rows: of :func:`jaxser.reporting.loading.load`.
      seconds: attack -> what papers say that it took; empty for no such column.
      epsilon: to answer for; by default the largest at which the peak SNR is still 30 dB.

    Raises:
      UsageError: nothing was attacked at that ε.
    """
    return list(_sections(rows, seconds, epsilon))


def _sections(rows: Rows, seconds: Mapping[str, str], epsilon: float | None) -> Iterator[Section]:
    over, threats = rows.interval_over, threats_of(rows)
    own = strongest_first(threats)
    limited = [threat for threat in threats if threat.epsilons]
    epsilons = chosen_epsilons(limited, epsilon)
    if limited:
        yield answer(limited, epsilons, over)
    yield from epsilon_curves(limited)
    yield from by_epsilon(limited, over)
    yield before_attacks(rows.settings, over)
    if own:
        yield robustness(own, over)
        yield from uar_curves(limited)
        yield from loudness_curves(threats)
        yield from norm_curves(threats)
        yield from optimalities(threats)
        for made in (attacks_against_each_other, victims_against_each_other):
            pairs = made(limited, epsilons, over)
            if pairs is not None:
                yield pairs
        chosen = [
            next(iter(threat.at(epsilon).values()))
            for threat, epsilon in zip(limited, epsilons, strict=True)
        ]
        chosen += [threat.settings[-1] for threat in threats if not threat.epsilons]
        yield from flows(chosen)
        yield from confusions(chosen)
        yield from parts(rows, own)
        yield queries(own)
        yield speed(rows, own, seconds)
    heard = [setting for setting in rows.settings if setting.transferred]
    if heard:
        yield from heat_maps(rows.settings)
        yield transfer(heard, over)
    yield from victims(rows.victims)
