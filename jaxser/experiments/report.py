"""What a report shows of rows: which sections were asked for, and speech that is made again.

made = list(report_sections(config, [load(runs) for runs in config.groups]))
"""

from collections.abc import Iterator, Sequence

from jaxser.config.report import ReportConfig
from jaxser.reporting.compare import comparison, comparison_by
from jaxser.reporting.page import sections
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.speed import speed_sections

__all__ = ["report_sections"]


def report_sections(config: ReportConfig, loaded: Sequence[Rows]) -> Iterator[Section]:
    """The sections of a report, in the order of the page.

    Args:
      config: what is asked for.
      loaded: the rows of each of ``config.groups``.

    Raises:
      InputError: rows, tables or victims that do not go together; see the message.
    """
    if config.compare:
        first, second = loaded
        name, other = map(str, config.compare)
        yield comparison(first, second, name, other)
        yield from comparison_by(first, second, name, other)
        return
    seconds: dict[str, str] = {}
    if config.table:
        # Hyper-parameters are compared as attacks have them: attacks are imported where asked for.
        from jaxser.reporting.paper_tables.paper import load_papers
        from jaxser.reporting.paper_tables.seconds import seconds_in_papers
        from jaxser.reporting.paper_tables.sections import paper_sections

        papers = load_papers(config.table, config.line)
        seconds = seconds_in_papers(papers)
    for rows in loaded:
        yield from sections(rows, seconds)
        if config.audio:
            from jaxser.experiments.listening import listening
            from jaxser.runtime.compilation import enable_compilation_cache

            enable_compilation_cache()
            yield from listening(rows, config.audio)
        if config.table:
            for paper in papers:
                yield from paper_sections(rows, paper)
    if config.speed:
        yield from speed_sections(config.speed, seconds)
