"""Attack threat models, and score what was made on other victims: ``python -m jaxser.transfer``.

    python -m jaxser.transfer configs/tables/staa_net_table4.yaml \\
        --threat runs/emo18_emodb --generator runs/staa_net_emodb --match_sparsity STAA-Net \\
        --victim runs/emo18_emodb runs/zhao19_emodb --split val test --out transfer
    python -m jaxser.transfer configs/tables/staa_net_table6.yaml --threat runs/emo18_emodb \\
        --victim runs/zhao19_emodb --generator "STAA-Net=runs/staa_net_emodb" \\
        "without sparsity loss=runs/staa_net_emodb_dense" ...

A table file lists attacks. Each is run on every threat model as python -m jaxser.attack runs it
(its rows and WAV files are kept there, and not made again), and the adversarial speech is given to
every victim. The table has STAA-Net's columns: peak SNR, share of changed samples and seconds per
utterance on the threat model, and on each victim the attack success rate: the share of all
utterances whose prediction changes; beside them STOI, how well the speech is still understood. With
--out: the same as Markdown, HTML and CSV, with intervals.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxser.config.transfer import parse_transfer
from jaxser.papers.table import with_attacks
from jaxser.papers.transfer import TransferTable, load_transfer_table, matched_share
from jaxser.runtime.errors import UsageError, nearest_name, report_errors
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, score, print; returns the exit status."""
    config = parse_transfer(argv)
    (table,) = with_attacks([load_transfer_table(config.table)], config.attacks)
    matched_share(table, config.match_sparsity)
    generators = _generators(table, config.generator, len(config.threat))

    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.transfer import transfer_lines
    from jaxser.reporting.transfer import format_transfer, write_transfer
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    lines = transfer_lines(table, generators, config)
    width = terminal_width()
    text = format_transfer(table, lines, config.interval_over, width)
    print(wrapped(f"{text}\n{took()}", width))
    if config.out is not None:
        write_transfer(config.out, table, lines, config.interval_over)
        print(f"table in {config.out / 'transfer.md'}")
    return 0


def _generators(
    table: TransferTable, given: Sequence[str], threats: int
) -> dict[str, list[Path | None]]:
    """The run of every line that needs one, for each threat model in turn; None: left open."""
    titles = [
        entry.title
        for entry in table.attacks
        if entry.attack == "staanet" and "generator" not in entry.parameters
    ]
    found: dict[str, list[Path | None]] = {title: [] for title in titles}
    for text in given:
        line, equals, run = text.partition("=")
        if not equals or Path(text).exists():
            if len(titles) > 1:
                raise UsageError(
                    f"--generator {text} does not say for which line of the table; give it as "
                    f"'LINE=RUN' with one of: {', '.join(titles)}."
                )
            line, run = titles[0] if titles else "", text
        if not titles:
            raise UsageError(
                f"--generator {text}: no line that is made needs a generator; leave it out."
            )
        if line not in found:
            raise UsageError(
                f"--generator {text} is for no line of the table; {nearest_name(line, found)}"
            )
        found[line].append(None if run == "none" else Path(run))
    for title, runs in found.items():
        if runs and len(runs) != threats:
            raise UsageError(
                f"{title} has {len(runs)} generators for {threats} threat models; give one run "
                f"for each --threat, in the same order, or '{title}=none' where there is none."
            )
        found[title] = runs or [None] * threats
    if len(titles) == len(table.attacks) and not any(map(any, found.values())):
        raise UsageError(
            f"{', '.join(titles)} need trained generators; give --generator "
            f"{'RUN' if len(titles) == 1 else 'LINE=RUN ...'}."
        )
    return found


if __name__ == "__main__":
    sys.exit(report_errors(main))
