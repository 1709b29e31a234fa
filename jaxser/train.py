"""Train a victim: ``python -m jaxser.train [CONFIG.yaml] [--any.field value]``.

With ``--threat RUN ...`` it trains a generator of adversarial speech against victims instead.
Without arguments it runs the demo: Emo18 on synthetic speech. A run that was stopped goes on when
the same command is given again.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxser.config import TrainConfig, parse_command
from jaxser.runtime.errors import report_errors

if TYPE_CHECKING:
    from jaxser.training.run import TrainingOutcome

# As a shell reports a process that SIGTERM ended: scripts must not go on as if it had finished.
_STOPPED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, print; returns the exit status."""
    config = parse_command(
        TrainConfig,
        "python -m jaxser.train",
        "Train a speech emotion recognition victim, or with --threat a generator of adversarial "
        "speech against victims, or go on with a run that was stopped. Without arguments: the demo "
        "on synthetic speech.",
        argv,
    )
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    outcome = _train(config)
    if not outcome.finished:
        print(f"stopped after {outcome.step} updates; the same command goes on from there.")
        return _STOPPED
    print(format_generator(outcome, config) if config.threat else format_outcome(outcome, config))
    return 0


def _train(config: TrainConfig) -> "TrainingOutcome":
    if config.threat:
        from jaxser.training.generator_run import train_generator

        return train_generator(config)
    from jaxser.training.run import train_victim

    return train_victim(config)


def format_outcome(outcome: "TrainingOutcome", config: TrainConfig) -> str:
    """The table that ends a run: each metric with its 95% interval over utterances."""
    lines = [
        f"{config.model.name} on {outcome.title}, split {config.corpus.split}, "
        f"epoch {outcome.results['best_epoch']} of {outcome.results['epochs']}"
    ]
    lines += [f"note: {note}" for note in outcome.notes]
    lines.append(
        f"{'part':6} {'utterances':>10} {'speakers':>8}  {'UAR':22} {'accuracy':22} macro F1"
    )
    for part in ("val", "test"):
        if part in outcome.results:
            figures = outcome.results[part]
            speakers = f"{figures['speakers']:8d}"
            lines.append(f"{part:6} {figures['utterances']:10d} {speakers}  {_cells(figures)}")
            for gender, its in figures["by_gender"].items():
                lines.append(f"{gender:>6} {its['utterances']:10d} {'':8}  {_cells(its)}")
    lines.append(f"95% bootstrap intervals over utterances; everything is in {config.out}")
    return "\n".join(lines)


def format_generator(outcome: "TrainingOutcome", config: TrainConfig) -> str:
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
            low, high = figures["asr_interval_speakers"]
            asr = f"{figures['asr']:.1%} ({low:.1%}–{high:.1%})"
            lines.append(
                f"{part:6} {outcome.results[part]['utterances']:10d} {epsilon:>8}  {asr:22} "
                f"{figures['sparsity']:8.1%} {figures['fooled_snr_peak']:6.1f} dB"
            )
    lines.append(
        "95% bootstrap intervals over speakers and utterances; changed: share of samples, over all "
        f"utterances; SNR over those that are fooled; everything is in {config.out}"
    )
    return "\n".join(lines)


def _cells(figures: Mapping[str, Any]) -> str:
    uar, accuracy, f1 = (_interval(figures[name]) for name in ("uar", "accuracy", "macro_f1"))
    return f"{uar:22} {accuracy:22} {f1}"


def _interval(metric: dict[str, list[float]]) -> str:
    low, high = metric["interval_utterances"]
    return f"{metric['value']:.1%} ({low:.1%}–{high:.1%})"


if __name__ == "__main__":
    sys.exit(report_errors(main))
