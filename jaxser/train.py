"""Train a victim: ``python -m jaxser.train [CONFIG.yaml] [--any.field value]``.

With ``--threat RUN ...`` it trains a generator of adversarial speech against victims instead.
Without arguments it runs the demo: Emo18 on synthetic speech. A run that was stopped goes on when
the same command is given again.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxser.config import TrainConfig, parse_command
from jaxser.config.parser import command_name
from jaxser.config.train import TRAIN_FLAGS, check_no_generator
from jaxser.runtime.errors import report_errors, stopped_status
from jaxser.runtime.signals import Stopped
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

if TYPE_CHECKING:
    from jaxser.training.run import TrainingOutcome

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, print; returns the exit status."""
    config = parse_command(
        TrainConfig,
        command_name("train"),
        "Train a speech emotion recognition victim, or with --threat a generator of adversarial "
        "speech against victims, or go on with a run that was stopped. Without arguments: the demo "
        "on synthetic speech.",
        argv,
        TRAIN_FLAGS,
    )
    if not config.threat:
        check_no_generator(config)
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    outcome = _train(config)
    if not outcome.finished:
        print(f"stopped after {outcome.step} updates; the same command goes on from there.")
        # Scripts must not go on as if it had finished.
        return stopped_status(Stopped(outcome.signal))
    from jaxser.training.summary import format_generator, format_outcome

    table = format_generator if config.threat else format_outcome
    width = terminal_width()
    print(wrapped(f"{table(outcome, config, width)}\n{took()}", width))
    return 0


def _train(config: TrainConfig) -> "TrainingOutcome":
    if config.threat:
        from jaxser.training.generator_run import train_generator

        return train_generator(config)
    from jaxser.training.run import train_victim

    return train_victim(config)


if __name__ == "__main__":
    sys.exit(report_errors(main))
