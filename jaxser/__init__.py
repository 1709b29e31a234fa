"""jaxser: train speech emotion recognition victims, attack them, report their robustness.

    import jaxser
    victim = jaxser.load_victim("runs/demo")
    attack = jaxser.attacks.PGD(steps=20)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])

Submodules and functions are imported on first use, so that ``--help`` need not wait for JAX.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face
from jaxser.runtime.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxser import attacks as attacks
    from jaxser import corpora as corpora
    from jaxser import models as models
    from jaxser import results as results
    from jaxser import victims as victims
    from jaxser.driver.run import run_attack as run_attack
    from jaxser.experiments.benchmark import benchmark as benchmark
    from jaxser.victims.generator import load_generator as load_generator
    from jaxser.victims.loading import load_victim as load_victim
    from jaxser.victims.victim import Victim as Victim

__all__ = [
    "Victim",
    "attacks",
    "benchmark",
    "corpora",
    "load_generator",
    "load_victim",
    "models",
    "results",
    "run_attack",
    "victims",
]

_SUBMODULES = ("attacks", "corpora", "models", "results", "victims")
_FUNCTIONS = {
    "Victim": "victims.victim",
    "benchmark": "experiments.benchmark",
    "load_generator": "victims.generator",
    "load_victim": "victims.loading",
    "run_attack": "driver.run",
}

__getattr__, __dir__ = face(__name__, _FUNCTIONS, _SUBMODULES)
