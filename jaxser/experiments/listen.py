"""One recording before and after an attack: what is printed, and the files to hear it.

print(listen_to(parse_listen(["a.wav", "--victim", "runs/emo18"])))
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, CorpusConfig
from jaxser.config.listen import ListenConfig
from jaxser.driver.named_attack import attack_and_bounds
from jaxser.experiments.speech import victim_of
from jaxser.experiments.weakest import Weakest, recording, weakest
from jaxser.reporting import html as html_page
from jaxser.reporting.example import write_example
from jaxser.runtime.files import write_text
from jaxser.runtime.stages import stage
from jaxser.speech.audio import encode_wav
from jaxser.victims.loading import is_pretrained
from jaxser.victims.run_folder import read_run
from jaxser.victims.victim import Victim

__all__ = ["listen_to"]

# Classes that are told of.
_SHOWN = 3


def listen_to(config: ListenConfig) -> str:
    """Attack the recording, write the files, and say what came of it.

    Raises:
      UsageError, InputError: see the message.
    """
    asked = AttackCommandConfig(
        victim=config.victim,
        attack=config.attack,
        params=tuple(config.params),
        corpus=AttackedCorpusConfig(seconds=config.seconds),
    )
    attack, bounded = attack_and_bounds(asked)
    victim = victim_of(asked)
    if not bounded:
        attack = dataclasses.replace(attack, bounds=victim.bounds)
    own = is_pretrained(config.victim)
    trained = CorpusConfig() if own else read_run(config.victim)[0].corpus
    x = recording(config.file, victim, trained)
    stage("attacking")
    found = weakest(victim, x, attack, config.snr, config.seed)
    lines = [
        *(f"note: {note}" for note in victim.notes),
        f"{config.file}, of which {victim.name} hears {len(x) / victim.sample_rate:g} s: "
        f"{_told(found.before, victim)}",
    ]
    if found.x_adv is None or found.after is None:
        loudest = f" down to {config.snr[0]:g} dB" if not getattr(attack, "minimal_norm", 0) else ""
        lines.append(f"no perturbation of {attack.name}{loudest} makes it anything else")
        return "\n".join(lines)
    lines.append(f"after {attack.name}, {_level(found)} below it: {_told(found.after, victim)}")
    title = f"{config.file.name}, {attack.name}, {_level(found)}"
    write_example(config.folder, title, x, found.x_adv, victim.sample_rate)
    page = config.folder / "listen.html"
    write_text(page, _page(config, victim, x, found, title))
    lines += [f"{kind}: {config.folder / f'{kind}.wav'}" for kind in ("original", "adversarial")]
    return "\n".join([*lines, f"page: {page}"])


def _told(shares: Float[np.ndarray, " classes"], victim: Victim) -> str:
    """The likeliest classes, with what the victim gives each."""
    order = np.argsort(-shares, kind="stable")[:_SHOWN]
    return ", ".join(f"{victim.labels[i]} {shares[i]:.0%}" for i in order)


def _level(found: Weakest) -> str:
    return f"{found.snr_peak:.1f} dB (peak) and {found.snr_power:.1f} dB (power)"


def _page(
    config: ListenConfig,
    victim: Victim,
    x: Float[np.ndarray, " samples"],
    found: Weakest,
    title: str,
) -> str:
    assert found.x_adv is not None
    assert found.after is not None
    before, after = (victim.labels[int(each.argmax())] for each in (found.before, found.after))
    delta = found.x_adv - x
    gain = float(np.abs(x).max() / np.abs(delta).max())
    sounds = {
        f"before: {before}": x,
        f"after: {after}": found.x_adv,
        # As loud as the speech, so that it can be heard.
        f"the difference, {20 * math.log10(gain):.0f} dB louder": gain * delta,
    }
    facts = {
        "recording": str(config.file),
        "victim": f"{victim.name} ({config.victim})",
        "before": _told(found.before, victim),
        "after": _told(found.after, victim),
        "attack": " ".join([config.attack, *config.params]),
        "perturbation": f"{_level(found)} below the speech, at most {np.abs(delta).max():.2g}",
    }
    players = [
        html_page.audio(encode_wav(samples, victim.sample_rate, "PCM_16"), name, config.file.name)
        for name, samples in sounds.items()
    ]
    picture = (config.folder / "picture.png").read_bytes()
    notes = [html_page.paragraph(note, note=True) for note in victim.notes]
    words = f"Waveforms and log-mel spectrograms before and after, and their difference: {title}."
    body = [*notes, html_page.facts(facts), *players, html_page.picture(picture, words)]
    return html_page.page(f"{before} or {after}?", body)
