"""Every command that prints intervals lets a user say what they are over."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from jaxser.__main__ import COMMANDS
from jaxser.config import AttackCommandConfig, TrainConfig, parse_command
from jaxser.config.certify import CertifyConfig
from jaxser.config.evaluate import parse_evaluate
from jaxser.config.explain import ExplainConfig
from jaxser.config.report import parse_report
from jaxser.config.transfer import parse_transfer
from jaxser.runtime.errors import UsageError

PARSERS: dict[str, tuple[Callable[[Sequence[str]], Any], list[str]]] = {
    "train": (lambda argv: parse_command(TrainConfig, "train", "", argv), []),
    "attack": (lambda argv: parse_command(AttackCommandConfig, "attack", "", argv), []),
    "explain": (lambda argv: parse_command(ExplainConfig, "explain", "", argv), []),
    "certify": (lambda argv: parse_command(CertifyConfig, "certify", "", argv), []),
    "report": (parse_report, ["runs"]),
    "evaluate": (parse_evaluate, ["t.yaml", "--victim", "v"]),
    "transfer": (parse_transfer, ["t.yaml", "--threat", "v", "--victim", "v"]),
}
# These print no interval.
OTHERS = {"attacks", "listen", "corpora", "tune", "sweep", "export"}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - OTHERS))
def test_the_flag_is_there(command: str) -> None:
    parse, argv = PARSERS[command]
    assert parse(argv).interval_over == "utterance"
    assert parse([*argv, "--interval_over", "speaker"]).interval_over == "speaker"
    with pytest.raises(UsageError):
        parse([*argv, "--interval_over", "row"])
