"""From the section ``training.adversarial`` to what a victim is trained against.

    defence = defence_of(config, model, steps_per_epoch)       # None where there is no attack
    epsilon = budget_of(config)                                # [lowest, highest]

All that cannot work is refused here, in one sentence each.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.attacks import APGD, ATTACKS, BIM, EOTPGD, FGSM, MIFGSM, PGD, Attack, SparsePGD
from jaxser.attacks.projections import Bounds
from jaxser.config import AdversarialConfig, AttackCommandConfig, TrainConfig, as_params
from jaxser.config.adversarial import USUAL_SHARE
from jaxser.config.ranges import Domain
from jaxser.driver.named_attack import attack_and_bounds, named_attack
from jaxser.models.front_end import WithFrontEnd
from jaxser.models.image_front_end import WithImage
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import listed
from jaxser.training.adversarial import Defence
from jaxser.victims.module import ordered_pair

__all__ = ["budget_of", "check_defence", "defence_of", "domain_of", "resolved_attack"]

# Attacks with a gradient that end after a known number of steps within ε.
_TAKEN = (FGSM, BIM, MIFGSM, PGD, EOTPGD, SparsePGD, APGD)

_WHERE = "training.adversarial"

# Of Wong et al., ICLR 2020.
_FAST_STEP = 1.25

_BETA = {"adversarial": 0.0, "trades": 6.0, "mart": 5.0}


def resolved_attack(config: TrainConfig) -> TrainConfig:
    """``config`` with the attack by its name in lower case, and the parameters that its file has.

    So a run stays what it was when the file changes.
    """
    adversarial = config.training.adversarial
    if adversarial.attack is None:
        return config
    name, values = named_attack(adversarial.attack)
    resolved = dataclasses.replace(
        adversarial, attack=name.lower(), params=(*as_params(values), *adversarial.params)
    )
    training = dataclasses.replace(config.training, adversarial=resolved)
    return dataclasses.replace(config, training=training)


def domain_of(config: TrainConfig, model: nn.Module) -> Domain:
    """What the attack of a run changes."""
    asked = config.training.adversarial.domain
    if isinstance(model, WithImage):
        known: tuple[Domain, ...] = ("image", "spectrogram", "waveform")
    else:
        known = ("features", "waveform") if isinstance(model, WithFrontEnd) else ("waveform",)
    if asked is not None and asked not in known:
        raise UsageError(
            f"{config.model.name} has no {asked} to attack; give {_WHERE}.domain "
            f"{' or '.join(sorted(known))}."
        )
    return asked or known[0]


def budget_of(config: TrainConfig) -> Float[Array, "2"]:
    """The lowest and the highest ε of a run."""
    epsilon = config.training.adversarial.epsilon
    if not epsilon:
        raise UsageError(
            f"{_WHERE}.attack needs a budget; give {_WHERE}.epsilon, such as 0.002 for waveforms."
        )
    low, high = epsilon[0], epsilon[-1]
    if not 0 < low <= high < math.inf:
        raise UsageError(
            f"{_WHERE}.epsilon must be one positive, finite number or a smaller and a larger one, "
            f"not {' '.join(f'{each:g}' for each in epsilon)}."
        )
    return jnp.array([low, high], jnp.float32)


def defence_of(config: TrainConfig, model: nn.Module, steps_per_epoch: int) -> Defence | None:
    """What the run trains against; None where it trains on clean speech alone.

    Args:
      config: of the run.
      model: the victim's module, front end included.
      steps_per_epoch: batches.

    Raises:
      UsageError: an attack that cannot be trained against, or settings that contradict each other.
    """
    adversarial = config.training.adversarial
    if adversarial.attack is None:
        _check_absent(config)
        return None
    domain = domain_of(config, model)
    attack = _attack(config, adversarial, _bounds(config, domain))
    budget_of(config)
    _check_run(config, domain)
    _check_loss(adversarial, attack)
    share = USUAL_SHARE if adversarial.share is None else adversarial.share
    beta = _BETA[adversarial.loss] if adversarial.beta is None else adversarial.beta
    return Defence(
        attack=attack,
        inputs=_inputs(model, domain),
        share=share if adversarial.loss == "adversarial" else 1.0,
        warmup_steps=round(adversarial.warmup_epochs * steps_per_epoch),
        loss=adversarial.loss,
        beta=beta,
        awp=adversarial.awp,
        batch_norm=adversarial.batch_norm,
        replays=adversarial.replays,
    )


def check_defence(config: TrainConfig) -> None:
    """Refuse what can be refused of a run's defence before there is a victim; UsageError."""
    adversarial = resolved_attack(config).training.adversarial
    if adversarial.attack is None:
        _check_absent(config)
        return
    budget_of(config)
    _check_loss(adversarial, _attack(config, adversarial, (-1.0, 1.0)))


def _check_absent(config: TrainConfig) -> None:
    """Refuse settings of an attack that is not named: they would be passed over."""
    given, default = config.training.adversarial, AdversarialConfig()
    for field in dataclasses.fields(AdversarialConfig):
        if getattr(given, field.name) != getattr(default, field.name):
            raise UsageError(
                f"{_WHERE}.{field.name} is of training against an attack; give {_WHERE}.attack, "
                "such as pgd, or leave it out."
            )
    if config.training.monitor == "robust":
        raise UsageError(
            f"training.monitor robust needs {_WHERE}.attack; set it to uar, loss or last."
        )


def _attack(config: TrainConfig, adversarial: AdversarialConfig, bounds: Bounds) -> Attack:
    """The attack within ``bounds``, unless it was given others."""
    assert adversarial.attack is not None
    if any(text.partition("=")[0].strip() == "targeted" for text in adversarial.params):
        raise UsageError(
            f"{_WHERE} makes each row leave its own label; leave targeted out of {_WHERE}.params."
        )
    _check_kind(named_attack(adversarial.attack)[0])
    asked = AttackCommandConfig(attack=adversarial.attack, params=adversarial.params)
    attack, bounded = attack_and_bounds(asked)
    assert isinstance(attack, _TAKEN)
    if attack.minimal_norm:
        raise UsageError(
            f"{attack.name} with minimal looks for the smallest perturbation, whatever epsilon; "
            f"leave minimal out of {_WHERE}.params."
        )
    if not bounded:
        attack = dataclasses.replace(attack, bounds=bounds)
    if not adversarial.random_start:
        return attack
    if not isinstance(attack, FGSM):
        raise UsageError(
            f"{_WHERE}.random_start is of fgsm, not of {attack.name}; set it to false (pgd has "
            "--training.adversarial.params random_start=true)."
        )
    # One projected step from a random point.
    return PGD(steps=1, relative_step_size=_FAST_STEP, random_start=True, bounds=attack.bounds)


def _check_kind(name: str) -> None:
    """Refuse what cannot be trained against, before its hyper-parameters are looked at: those of a
    config file may be another attack's."""
    taken = [kind.name for kind in _TAKEN]
    if name.lower() in ATTACKS and name.lower() not in taken:
        raise UsageError(
            f"{name.lower()} is no attack to train against, which needs a gradient and ends within "
            f"epsilon after a known number of steps; give {_WHERE}.attack one of "
            f"{', '.join(taken)}."
        )


def _check_run(config: TrainConfig, domain: Domain) -> None:
    training, adversarial = config.training, config.training.adversarial
    if training.mixup > 0:
        raise UsageError(
            f"training.mixup mixes utterances that {_WHERE} attacks one by one; set it to 0, or "
            f"leave {_WHERE}.attack out."
        )
    if training.image_augmentation and domain != "image":
        raise UsageError(
            f"training.image_augmentation changes images, after the {domain} that is attacked; "
            f"give {_WHERE}.domain image, or leave it out."
        )
    if training.monitor == "robust" and not adversarial.watch_rows:
        raise UsageError(f"training.monitor robust needs rows to watch; give {_WHERE}.watch_rows.")
    if adversarial.replays > 1:
        if adversarial.attack != "fgsm":
            raise UsageError(
                f"{_WHERE}.replays is of fgsm, not of {adversarial.attack}; set {_WHERE}.attack to "
                "fgsm, or replays to 1."
            )
        refused = {
            "random_start": adversarial.random_start,
            "loss": adversarial.loss != "adversarial",
            "awp": adversarial.awp > 0,
            "batch_norm": adversarial.batch_norm != "evaluation",
        }
        wrong = [name for name, given in refused.items() if given]
        if wrong:
            raise UsageError(
                f"{_WHERE}.replays moves fgsm's perturbation by the update's own backward pass; "
                f"set {_WHERE}.{listed(wrong)} back, or replays to 1."
            )
        if training.accumulate > 1:
            raise UsageError(
                f"{_WHERE}.replays makes several updates of a batch, and training.accumulate one "
                "of several batches; set one of the two to 1."
            )


def _check_loss(adversarial: AdversarialConfig, attack: Attack) -> None:
    """Refuse what a loss has no meaning with."""
    if adversarial.loss == "adversarial":
        if adversarial.beta is not None:
            raise UsageError(f"{_WHERE}.beta is of trades and mart; leave it out.")
        return
    if adversarial.share not in (None, 1):
        raise UsageError(
            f"{adversarial.loss} compares each row with itself, attacked; leave out "
            f"{_WHERE}.share, or set it to 1."
        )
    if adversarial.loss == "mart":
        return
    # Its divergence is least, and flat, at the clean input.
    starts = isinstance(attack, PGD) and attack.random_start
    if not starts or attack.finishes_early:
        raise UsageError(
            f"trades ascends a divergence that is flat at the clean input, where {attack.name} "
            "starts or stops here; give pgd or eotpgd, or fgsm with random_start true, and no "
            "early_stop."
        )
    if attack.epsilon_norm not in ("linf", "l2"):
        raise UsageError(
            f"trades projects onto an L∞ or an L2 ball, not {attack.epsilon_norm}; give "
            f"{_WHERE}.params norm=linf or norm=l2."
        )


def _bounds(config: TrainConfig, domain: Domain) -> Bounds:
    if domain == "features":
        return ordered_pair("features.bounds", config.features.bounds)
    return (-1.0, 1.0) if domain == "waveform" else (0.0, 1.0)


def _inputs(model: nn.Module, domain: Domain) -> Callable[[Any, Array], Array]:
    """From what batches hold to what is attacked; see :func:`jaxser.training.run.train_victim`."""
    if domain in ("waveform", "features"):
        return lambda variables, x: x

    def of_image(variables: Any, x: Array) -> Array:
        return cast(Array, model.apply(variables, x, method=domain))

    return of_image
