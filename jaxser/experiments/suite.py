"""The attacks of a suite on one victim and its speech, one after the other.

for run, throughput in suite_runs(AttackCommandConfig(victim=Path("runs/emo18"), suite="quick")):
    run.rows()
"""

import dataclasses
from collections.abc import Iterator

from jaxser.config import AttackCommandConfig
from jaxser.config.suites import suite_configs
from jaxser.driver.meter import Throughput
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.run import Run
from jaxser.experiments.speech import load_speech

__all__ = ["suite_runs"]


def suite_runs(
    config: AttackCommandConfig, speech: Speech | None = None, *, shown: bool = True
) -> Iterator[tuple[Run, Throughput]]:
    """Attack what is missing, attack by attack.

    Args:
      config: that asks for a suite; ``out`` gets a folder for every attack.
      speech: of the victim, where it is loaded already.
      shown: whether there is a progress bar.

    Raises:
      UsageError, InputError: see the message.
      Stopped: after Ctrl-C or another signal; rows that are finished are kept.
    """
    configs, out = suite_configs(config), config.out
    speech = load_speech(config) if speech is None else speech
    for each in configs:
        run = prepare_run(dataclasses.replace(each, out=None), speech, out)
        yield run, attack_missing_rows(run, shown=shown)
