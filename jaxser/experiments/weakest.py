"""The weakest perturbation of one recording by which an attack succeeds.

speech = recording(Path("a.wav"), victim, CorpusConfig())
found = weakest(victim, speech, PGD(bounds=victim.bounds), (10.0, 60.0), seed=0)
found.after, found.snr_peak, found.x_adv
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxser.config import CorpusConfig
from jaxser.driver.budgets import EpsilonUnit, check_budgets
from jaxser.driver.run import attack_rows, clean_pass
from jaxser.driver.sequence import members
from jaxser.driver.work import CleanPass
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.audio import read_audio, resample, to_mono, unify_length
from jaxser.victims.victim import Victim

__all__ = ["Weakest", "recording", "weakest"]

# Budgets that are tried at once: between the ends first, then between the two that the answer lies
# between. As many both times, so that the same programs serve.
_TRIED = 11

_UNITS: dict[str, EpsilonUnit] = {"linf": "snr_peak", "l2": "snr_power"}


@dataclasses.dataclass(frozen=True, eq=False)
class Weakest:
    """What an attack found.

    Attributes:
      before: the victim's scores of the recording, as probabilities.
      after: of the adversarial speech; None where nothing succeeded.
      x_adv: that speech; None likewise.
      snr_peak, snr_power: of the perturbation, in dB.
    """

    before: Float[np.ndarray, " classes"]
    after: Float[np.ndarray, " classes"] | None = None
    x_adv: Float[np.ndarray, " samples"] | None = None
    snr_peak: float = float("nan")
    snr_power: float = float("nan")


def recording(path: Path, victim: Victim, trained: CorpusConfig) -> Float[np.ndarray, " samples"]:
    """A file as the victim hears it: one channel, its rate and its length.

    Args:
      path: any format that libsndfile reads.
      victim: of waveforms.
      trained: how the speech was made that it was trained on.

    Raises:
      DamagedAudioError: the file is missing or damaged.
      InputError: it is silent, which no SNR is of.
    """
    samples, rate = read_audio(path)
    x = resample(to_mono(samples, trained.channel), rate, victim.sample_rate)
    x = np.clip(x, -1, 1).astype(np.float32)
    # Windows are filled up with zeros, all other speech is repeated.
    x = unify_length(x, victim.input_shape[0], "pad" if trained.windows else "repeat")
    if not x.any():
        raise InputError(f"{path} is silent in what the victim hears of it; give speech.")
    return x


def weakest(
    victim: Victim,
    x: Float[np.ndarray, " samples"],
    attack: Any,
    snr: tuple[float, float],
    seed: int,
) -> Weakest:
    """Attack one recording so that the victim takes it for something else than before.

    Args:
      victim: of waveforms.
      x: of :func:`recording`.
      attack: within the victim's bounds; of L∞ or L2, or one that looks for the smallest change.
      snr: the strongest and the weakest perturbation that is tried, in dB: of the peaks (L∞) or of
        the powers (L2).
      seed: of random starts.

    Raises:
      InputError: the victim's logits are not finite.
      UsageError: an attack that an SNR is no budget of.
    """
    one = x[None]
    clean = clean_pass(victim, one, seed=seed, ids=["recording"])
    if clean.prediction[0] < 0:
        raise InputError("the victim's logits for the recording are not finite.")
    found = Weakest(before=_shares(clean.logits[0]))
    if all(part.minimal_norm for part in members(attack, len(victim.labels))):
        return _best(found, _tried(victim, one, clean, attack, [np.inf], "amplitude", seed))
    norm = check_budgets(attack, [1.0], "amplitude", len(victim.labels))
    if norm not in _UNITS:
        raise UsageError(
            f"{attack.name} bounds the {norm} norm, which an SNR says nothing of; give one of L∞ "
            "or L2, or one that looks for the smallest perturbation."
        )
    unit = _UNITS[norm]
    budgets = np.linspace(*snr, _TRIED)
    rows = _tried(victim, one, clean, attack, budgets, unit, seed)
    if rows and (last := max(row["budget"] for row in rows)) < snr[1]:
        following = float(budgets[np.searchsorted(budgets, last) + 1])
        between = np.linspace(last, following, _TRIED + 2)[1:-1]
        rows += _tried(victim, one, clean, attack, between, unit, seed)
    return _best(found, rows)


def _tried(
    victim: Victim,
    x: Float[np.ndarray, "1 samples"],
    clean: CleanPass,
    attack: Any,
    budgets: Any,
    unit: EpsilonUnit,
    seed: int,
) -> list[dict[str, Any]]:
    """What succeeded, of the attack at all budgets."""
    found = []
    for block in attack_rows(
        victim,
        x,
        clean.prediction,
        attack,
        [float(budget) for budget in budgets],
        epsilon_unit=unit,
        seed=seed,
        ids=["recording"],
        keep_x_adv=True,
        clean=clean,
    ):
        assert block.x_adv is not None
        found += [
            {
                "budget": float(budgets[block.epsilon_index[i]]),
                "x_adv": block.x_adv[i],
                "after": _shares(block.logits[i]),
                **{name: float(block.measures[name][i]) for name in ("snr_peak", "snr_power")},
            }
            for i in np.flatnonzero(block.success)
        ]
    return found


def _best(found: Weakest, rows: list[dict[str, Any]]) -> Weakest:
    """With the perturbation that has least power."""
    if not rows:
        return found
    best = max(rows, key=lambda row: row["snr_power"])
    values = {name: best[name] for name in ("after", "x_adv", "snr_peak", "snr_power")}
    return dataclasses.replace(found, **values)


def _shares(logits: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()
