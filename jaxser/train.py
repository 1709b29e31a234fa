"""Train a victim: ``python -m jaxser.train [CONFIG.yaml] [--any.field value]``.

With ``--threat RUN ...`` it trains a generator of adversarial speech against victims instead.
Without arguments it runs the demo: Emo18 on synthetic speech. A run that was stopped goes on when
the same command is given again. Several processes that are given the same command, each with its
own ``--process``, train one network on all their devices; ``docs/scaling.md`` has more of that.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxser.config import TrainConfig
from jaxser.config.command_line import parse_command_and
from jaxser.config.parser import CommandParser, add_process_flags, command_name
from jaxser.config.train import TRAIN_FLAGS, check_no_generator
from jaxser.runtime.determinism import add_deterministic_flag, be_deterministic
from jaxser.runtime.errors import UsageError, report_errors, stopped_status
from jaxser.runtime.signals import Stopped
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

if TYPE_CHECKING:
    from jaxser.training.run import TrainingOutcome

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, print; returns the exit status."""
    config, flags = parse_command_and(
        _add_flags,
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
    process = _joined(config, flags)
    be_deterministic(config.out, flags.deterministic, process)
    outcome = _train(config)
    if not outcome.finished:
        print(f"stopped after {outcome.step} updates; the same command goes on from there.")
        # Scripts must not go on as if it had finished.
        return stopped_status(Stopped(outcome.signal))
    if process > 0:
        return 0
    from jaxser.training.summary import format_generator, format_outcome

    table = format_generator if config.threat else format_outcome
    width = terminal_width()
    print(wrapped(f"{table(outcome, config, width)}\n{took()}", width))
    return 0


def _add_flags(parser: CommandParser) -> None:
    add_process_flags(parser)
    add_deterministic_flag(parser)


def _joined(config: TrainConfig, flags: argparse.Namespace) -> int:
    """Find the other processes of the run; the number of this one."""
    from jaxser.runtime.sharding import join_processes, same_everywhere

    share = join_processes(flags.coordinator, flags.processes, flags.process)
    if share.count > 1 and same_everywhere(share, repr(config)) != repr(config):
        raise UsageError(
            f"process {share.index} was given another training than process 0; start all "
            "with the same file and flags."
        )
    return share.index


def _train(config: TrainConfig) -> "TrainingOutcome":
    if config.threat:
        from jaxser.training.generator_run import train_generator

        return train_generator(config)
    from jaxser.training.run import train_victim

    return train_victim(config)


if __name__ == "__main__":
    sys.exit(report_errors(main))
