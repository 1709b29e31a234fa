"""Attacks: frozen dataclasses of hyper-parameters with two pure methods, ``init`` and ``step``.

    attack = jaxser.attacks.PGD(steps=40, norm="l2")
    attack = jaxser.attacks.from_parameters("pgd", {"steps": "40", "norm": "l2"})
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.5])

The protocol and the state are in ``base``; one file per algorithm holds the attacks, and their
names are in ``registry``.

Names are imported on first use, so that ``--help`` need not wait for JAX.
"""

from typing import TYPE_CHECKING

from jaxser.runtime.faces import face

if TYPE_CHECKING:
    from jaxser.attacks.apgd import APGD as APGD
    from jaxser.attacks.autoattack import AutoAttack as AutoAttack
    from jaxser.attacks.base import Attack as Attack
    from jaxser.attacks.base import AttackState as AttackState
    from jaxser.attacks.base import BaseAttack as BaseAttack
    from jaxser.attacks.bim import BIM as BIM
    from jaxser.attacks.boundary import Boundary as Boundary
    from jaxser.attacks.carlini_l0 import CarliniL0 as CarliniL0
    from jaxser.attacks.carlini_l2 import CarliniL2 as CarliniL2
    from jaxser.attacks.carlini_linf import CarliniLinf as CarliniLinf
    from jaxser.attacks.deepfool import DeepFool as DeepFool
    from jaxser.attacks.eotpgd import EOTPGD as EOTPGD
    from jaxser.attacks.fab import FAB as FAB
    from jaxser.attacks.few_pixel import FewPixel as FewPixel
    from jaxser.attacks.fgsm import FGSM as FGSM
    from jaxser.attacks.hopskipjump import HopSkipJump as HopSkipJump
    from jaxser.attacks.jsma import JSMA as JSMA
    from jaxser.attacks.mifgsm import MIFGSM as MIFGSM
    from jaxser.attacks.noise import Noise as Noise
    from jaxser.attacks.one_pixel import OnePixel as OnePixel
    from jaxser.attacks.pgd import PGD as PGD
    from jaxser.attacks.pixle import Pixle as Pixle
    from jaxser.attacks.registry import ATTACKS as ATTACKS
    from jaxser.attacks.registry import from_parameters as from_parameters
    from jaxser.attacks.registry import parameters as parameters
    from jaxser.attacks.sparsefool import SparseFool as SparseFool
    from jaxser.attacks.sparsepgd import SparsePGD as SparsePGD
    from jaxser.attacks.square import Square as Square
    from jaxser.attacks.staa_net import StaaNet as StaaNet

__all__ = [
    "APGD",
    "ATTACKS",
    "BIM",
    "EOTPGD",
    "FAB",
    "FGSM",
    "JSMA",
    "MIFGSM",
    "PGD",
    "Attack",
    "AttackState",
    "AutoAttack",
    "BaseAttack",
    "Boundary",
    "CarliniL0",
    "CarliniL2",
    "CarliniLinf",
    "DeepFool",
    "FewPixel",
    "HopSkipJump",
    "Noise",
    "OnePixel",
    "Pixle",
    "SparseFool",
    "SparsePGD",
    "Square",
    "StaaNet",
    "from_parameters",
    "parameters",
]

_DEFINED_IN = {
    "APGD": "apgd",
    "ATTACKS": "registry",
    "BIM": "bim",
    "EOTPGD": "eotpgd",
    "FAB": "fab",
    "FGSM": "fgsm",
    "JSMA": "jsma",
    "MIFGSM": "mifgsm",
    "PGD": "pgd",
    "Attack": "base",
    "AttackState": "base",
    "AutoAttack": "autoattack",
    "BaseAttack": "base",
    "Boundary": "boundary",
    "CarliniL0": "carlini_l0",
    "CarliniL2": "carlini_l2",
    "CarliniLinf": "carlini_linf",
    "DeepFool": "deepfool",
    "FewPixel": "few_pixel",
    "HopSkipJump": "hopskipjump",
    "Noise": "noise",
    "OnePixel": "one_pixel",
    "Pixle": "pixle",
    "SparseFool": "sparsefool",
    "SparsePGD": "sparsepgd",
    "Square": "square",
    "StaaNet": "staa_net",
    "from_parameters": "registry",
    "parameters": "registry",
}

__getattr__, __dir__ = face(__name__, _DEFINED_IN)
