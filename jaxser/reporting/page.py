"""What a page says of rows, in the order in which it says it.

made = sections(load([Path("runs/sweep")]), {})
"""

from collections.abc import Mapping

from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.sections.cost import queries, speed
from jaxser.reporting.sections.curves import curves
from jaxser.reporting.sections.robustness import before_attacks, confusions, parts, robustness
from jaxser.reporting.sections.transfer import heat_maps, transfer
from jaxser.reporting.sections.victims import victims

__all__ = ["sections"]


def sections(rows: Rows, seconds: Mapping[str, str]) -> list[Section]:
    """All that rows say, in the order of the page.

    Args:
      rows: of :func:`jaxser.reporting.loading.load`.
      seconds: attack -> what papers say that it took; empty for no such column.
    """
    settings = rows.settings
    own = [setting for setting in settings if not setting.transferred]
    heard = [setting for setting in settings if setting.transferred]
    over = rows.interval_over
    made = [*victims(rows.victims), before_attacks(settings, over)]
    made += [*curves(own, over), robustness(own, over)]
    made += [*confusions(own), *parts(rows, own), queries(own), speed(rows, own, seconds)]
    if heard:
        made += [*heat_maps(settings), transfer(heard, over)]
    return made
