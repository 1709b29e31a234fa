"""What a report shows of rows: which sections were asked for, and speech that is made again.

made = list(report_sections(config, [load(runs) for runs in row_groups(config)]))
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxser.config.report import ReportConfig
from jaxser.reporting.certificates import certificate_sections
from jaxser.reporting.compare import compared_victims, comparison, comparison_by
from jaxser.reporting.compare_attacks import attack_matrices, compared_confusions
from jaxser.reporting.compare_curves import certified_curves, epsilon_curves, training_curves
from jaxser.reporting.page import sections
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.speed import speed_sections
from jaxser.results.certificates import has_certificates
from jaxser.results.reading import has_rows

__all__ = ["report_sections", "row_groups"]


def row_groups(config: ReportConfig) -> list[list[Path]]:
    """Folders that are one thing, as ``config.groups``, less those that hold certificates alone."""
    if config.compare:
        return config.groups
    with_rows = [run for run in config.run if has_rows(run) or not has_certificates(run)]
    return [with_rows] if with_rows else []


def report_sections(config: ReportConfig, loaded: Sequence[Rows]) -> Iterator[Section]:
    """The sections of a report, in the order of the page.

    Args:
      config: what is asked for.
      loaded: the rows of each of :func:`row_groups`.

    Raises:
      InputError: rows, tables or victims that do not go together; see the message.
    """
    if config.compare:
        first, second = loaded
        name, other = map(str, config.compare)
        folders = dict(zip((name, other), config.compare, strict=True))
        over = config.interval_over
        yield from compared_victims(first, second, name, other)
        yield comparison(first, second, name, other)
        yield from attack_matrices(first, second, name, other)
        yield from epsilon_curves(first, second, name, other)
        yield from certified_curves(folders, over)
        yield from training_curves(folders)
        yield from compared_confusions(first, second, name, other)
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
        yield from sections(rows, seconds, config.epsilon)
        if config.audio:
            from jaxser.experiments.listening import listening
            from jaxser.runtime.compilation import enable_compilation_cache

            enable_compilation_cache()
            yield from listening(rows, config.audio)
        if config.table:
            for paper in papers:
                yield from paper_sections(rows, paper)
    yield from certificate_sections(config.run, config.interval_over)
    if config.speed:
        yield from speed_sections(config.speed, seconds)
