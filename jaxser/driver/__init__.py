"""Rows of (utterance, ε) through the slots of an attack, on any number of devices.

    from jaxser.driver import attack_rows, clean_pass, predict, run_attack
    result = run_attack(victim, waveforms, labels, PGD(steps=20), epsilons=[0.005, 0.01], seed=0)

A run passes through ``run`` (arguments), ``budgets`` (ε), ``clean`` (the victim on clean speech),
``single_attack`` (a batch that fits into memory), ``stream`` (slots and their refilling) and
``scoring`` (results); ``machine`` and ``programs`` are what the devices compute.

Names are imported on first use, so that ``--help`` need not wait for JAX.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face

if TYPE_CHECKING:
    from jaxser.driver.result import AttackResult as AttackResult
    from jaxser.driver.row_block import RowBlock as RowBlock
    from jaxser.driver.run import attack_rows as attack_rows
    from jaxser.driver.run import clean_pass as clean_pass
    from jaxser.driver.run import predict as predict
    from jaxser.driver.run import run_attack as run_attack
    from jaxser.driver.sequence import AttackSequence as AttackSequence
    from jaxser.driver.work import CleanPass as CleanPass

__all__ = [
    "AttackResult",
    "AttackSequence",
    "CleanPass",
    "RowBlock",
    "attack_rows",
    "clean_pass",
    "predict",
    "run_attack",
]

_DEFINED_IN = {
    "AttackResult": "result",
    "AttackSequence": "sequence",
    "CleanPass": "work",
    "RowBlock": "row_block",
    "attack_rows": "run",
    "clean_pass": "run",
    "predict": "run",
    "run_attack": "run",
}

__getattr__, __dir__ = face(__name__, _DEFINED_IN)
