"""Victims: a module, its variables and its input contract; read from and written to folders.

    from jaxser.victims import Victim, load_generator, load_victim
    victim = load_victim("runs/emo18")              # of a training run, or a Hugging Face folder
    logits = victim.logits(waveforms)               # [batch, classes] float32

``module`` builds what a config describes, ``run_folder`` and ``hugging_face`` read it from disk,
``key_tables`` say where weights of other frameworks go.

Names are imported on first use, so that ``--help`` need not wait for JAX.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face

if TYPE_CHECKING:
    from jaxser.victims.generator import load_generator as load_generator
    from jaxser.victims.loading import load_victim as load_victim
    from jaxser.victims.probabilities import with_probabilities as with_probabilities
    from jaxser.victims.smoothing import smoothed as smoothed
    from jaxser.victims.torch_module import from_torch as from_torch
    from jaxser.victims.victim import Victim as Victim

__all__ = [
    "Victim",
    "from_torch",
    "load_generator",
    "load_victim",
    "smoothed",
    "with_probabilities",
]

_DEFINED_IN = {
    "Victim": "victim",
    "from_torch": "torch_module",
    "load_generator": "generator",
    "load_victim": "loading",
    "smoothed": "smoothing",
    "with_probabilities": "probabilities",
}

__getattr__, __dir__ = face(__name__, _DEFINED_IN)
