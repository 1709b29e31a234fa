"""The table that ends a training run: figures of each part with their 95% intervals."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxser.config import TrainConfig
from jaxser.results.intervals import policy
from jaxser.results.units import Over
from jaxser.runtime.text import listed
from jaxser.training.run import TrainingOutcome
from jaxser.victims.training_record import defence_text

__all__ = ["format_generator", "format_outcome"]


def format_outcome(outcome: TrainingOutcome, config: TrainConfig) -> str:
    """The table that ends a run: each metric with its 95% interval."""
    over = config.interval_over
    lines = [
        f"{config.model.name} on {outcome.title}, split {config.corpus.split}, "
        f"epoch {outcome.results['best_epoch']} of {outcome.results['epochs']}"
    ]
    lines += _defended(outcome, config)
    lines += [f"training took {cost}" for cost in [outcome.facts.cost()] if cost]
    lines += [f"note: {note}" for note in outcome.notes]
    lines.append(
        f"{'part':6} {'utterances':>10} {'speakers':>8}  {'UAR':22} {'accuracy':22} macro F1"
    )
    of_rows = []
    for part in ("train", "val", "test"):
        if part in outcome.results:
            figures = outcome.results[part]
            speakers = f"{figures['speakers']:8d}"
            lines.append(
                f"{part:6} {figures['utterances']:10d} {speakers}  {_cells(figures, over)}"
            )
            for gender, its in figures["by_gender"].items():
                lines.append(f"{gender:>6} {its['utterances']:10d} {'':8}  {_cells(its, over)}")
            if "whole_utterances" in figures:
                of_rows.append(f"{figures['rows']:,} ({part})")
                whole = figures["whole_utterances"]
                lines.append(
                    f"{'whole':>6} {whole['utterances']:10d} {'':8}  {_cells(whole, over)}"
                )
    if of_rows:
        kind = "windows" if config.corpus.windows else "chunks"
        lines.append(
            f"each of the {listed(of_rows)} {kind} counts as one; whole: of whole "
            f"utterances, by the mean of the logits of their {kind}"
        )
    lines.append(f"{policy(over)}; everything is in {config.out}")
    return "\n".join(lines)


def format_generator(outcome: TrainingOutcome, config: TrainConfig) -> str:
    """The table that ends the run of a generator: how it fools its threat models."""
    threats = ", ".join(map(str, config.threat))
    lines = [
        f"generator against {threats} on {outcome.title}, split {config.corpus.split}, "
        f"epoch {outcome.results['best_epoch']} of {outcome.results['epochs']}"
    ]
    lines += [f"note: {note}" for note in outcome.notes]
    lines.append(
        f"{'part':6} {'utterances':>10} {'ε':>8}  {'ASR':22} {'changed':>8} {'SNR peak':>9}"
    )
    for part in ("val", "test"):
        for epsilon, figures in outcome.results.get(part, {}).items():
            if not isinstance(figures, dict):
                continue
            low, high = figures[f"asr_interval_{config.interval_over}s"]
            asr = f"{figures['asr']:.1%} ({low:.1%}–{high:.1%})"
            lines.append(
                f"{part:6} {outcome.results[part]['utterances']:10d} {epsilon:>8}  {asr:22} "
                f"{figures['sparsity']:8.1%} {figures['fooled_snr_peak']:6.1f} dB"
            )
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


def _cells(figures: Mapping[str, Any], over: Over) -> str:
    uar, accuracy, f1 = (_interval(figures[name], over) for name in ("uar", "accuracy", "macro_f1"))
    return f"{uar:22} {accuracy:22} {f1}"


def _interval(metric: dict[str, list[float]], over: Over) -> str:
    low, high = metric[f"interval_{over}s"]
    return f"{metric['value']:.1%} ({low:.1%}–{high:.1%})"
