"""The table that ends a training run: figures of each part with their 95% intervals."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxser.config import TrainConfig
from jaxser.results.fitted import folded
from jaxser.results.intervals import policy
from jaxser.results.units import Over
from jaxser.runtime.text import listed
from jaxser.training.run import TrainingOutcome
from jaxser.victims.training_record import defence_text

__all__ = ["format_generator", "format_outcome"]


def format_outcome(outcome: TrainingOutcome, config: TrainConfig, width: int | None = None) -> str:
    """The table that ends a run: each metric with its 95% interval.

    Args:
      outcome: of a finished run.
      config: of it.
      width: of the terminal that the table is to fit.
    """
    over = config.interval_over
    lines = [
        f"{config.model.name} on {outcome.title}, split {config.corpus.split}, "
        f"epoch {outcome.results['best_epoch']} of {outcome.results['epochs']}"
    ]
    lines += _defended(outcome, config)
    lines += [f"training took {cost}" for cost in [outcome.facts.cost()] if cost]
    lines += [f"note: {note}" for note in outcome.notes]
    cells = [["part", "utterances", "speakers", "UAR", "accuracy", "macro F1"]]
    of_rows = []
    for part in ("train", "val", "test"):
        if part in outcome.results:
            figures = outcome.results[part]
            cells.append(_line(part, figures, over, str(figures["speakers"])))
            for gender, its in figures["by_gender"].items():
                cells.append(_line(gender, its, over))
            if "whole_utterances" in figures:
                of_rows.append(f"{figures['rows']:,} ({part})")
                cells.append(_line("whole", figures["whole_utterances"], over))
    lines.append(folded(cells, width))
    if of_rows:
        kind = "windows" if config.corpus.windows else "chunks"
        lines.append(
            f"each of the {listed(of_rows)} {kind} counts as one; whole: of whole "
            f"utterances, by the mean of the logits of their {kind}"
        )
    lines.append(f"{policy(over)}; everything is in {config.out}")
    return "\n".join(lines)


def format_generator(
    outcome: TrainingOutcome, config: TrainConfig, width: int | None = None
) -> str:
    """The table that ends the run of a generator: how it fools its threat models.

    Args:
      outcome: of a finished run.
      config: of it.
      width: of the terminal that the table is to fit.
    """
    threats = ", ".join(map(str, config.threat))
    lines = [
        f"generator against {threats} on {outcome.title}, split {config.corpus.split}, "
        f"epoch {outcome.results['best_epoch']} of {outcome.results['epochs']}"
    ]
    lines += [f"note: {note}" for note in outcome.notes]
    cells = [["part", "utterances", "ε", "ASR", "changed", "SNR peak"]]
    for part in ("val", "test"):
        for epsilon, figures in outcome.results.get(part, {}).items():
            if not isinstance(figures, dict):
                continue
            low, high = figures[f"asr_interval_{config.interval_over}s"]
            cells.append(
                [
                    *(part, str(outcome.results[part]["utterances"]), epsilon),
                    f"{figures['asr']:.1%} ({low:.1%}–{high:.1%})",
                    f"{figures['sparsity']:.1%}",
                    f"{figures['fooled_snr_peak']:.1f} dB",
                ]
            )
    lines.append(folded(cells, width))
    lines.append(
        f"{policy(config.interval_over)}; changed: share of samples, over all utterances; SNR over "
        f"those that are fooled; everything is in {config.out}"
    )
    return "\n".join(lines)


def _defended(outcome: TrainingOutcome, config: TrainConfig) -> Iterator[str]:
    """What a victim was trained against, and what was left of the rows that were watched."""
    defence, watched = defence_text(config), outcome.results.get("watched", {})
    if defence is None:
        return
    left = [
        f"{watched[f'{prefix}watched_accuracy']:.1%} of the {part} rows right, "
        f"{watched[f'{prefix}robust_accuracy']:.1%} under PGD"
        for prefix, part in (("", "training"), ("val_", "validation"))
        if f"{prefix}robust_accuracy" in watched
    ]
    yield defence + (f"; watched in that epoch: {'; '.join(left)}" if left else "")


def _line(part: str, figures: Mapping[str, Any], over: Over, speakers: str = "") -> list[str]:
    metrics = (_interval(figures[name], over) for name in ("uar", "accuracy", "macro_f1"))
    return [part, str(figures["utterances"]), speakers, *metrics]


def _interval(metric: dict[str, list[float]], over: Over) -> str:
    low, high = metric[f"interval_{over}s"]
    return f"{metric['value']:.1%} ({low:.1%}–{high:.1%})"
