"""Adversarial speech to listen to and to look at, made again as the rows say.

    made = list(listening(rows, utterances=2))

Rows do not keep speech. Their files say how it was made, and an attack comes out the same whenever
it is run, so the victim and the corpus are all that is needed.
"""

import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.config import AttackCommandConfig, from_mapping
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.run import Run
from jaxser.experiments.speech import load_speech
from jaxser.reporting.figures.spectrograms import perturbation_figure
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import Setting, by, epsilon_text, speech
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import file_stem
from jaxser.speech.audio import encode_wav, read_audio

__all__ = ["listening"]

_GROUP = "To listen to"


@dataclasses.dataclass(frozen=True, eq=False)
class _Example:
    """One row to listen to."""

    setting: Setting
    utterance: str
    label: str
    before: str
    after: str | None


def listening(rows: Rows, utterances: int) -> Iterator[Section]:
    """Players and pictures of what fooled a victim, at the weakest ε that did.

    Args:
      rows: of :func:`jaxser.reporting.loading.load`.
      utterances: of every victim and attack, spread over those that were fooled.

    Raises:
      InputError: rows that do not say what made them, or a victim or a corpus that is not there any
        more as it was.
    """
    own = [s for s in rows.settings if not s.transferred and s.facts["domain"] == "waveform"]
    names = ("victim", "corpus", "split", "attack", "parameters", "goal", "epsilon_unit")
    chosen = [(line, _examples(rows, line, utterances)) for line in by(own, *names).values()]
    if not any(examples for _, examples in chosen):
        yield Section(
            _GROUP, "", text="No attack on speech succeeded, so there is nothing to hear."
        )
    heard: tuple[Any, Speech] | None = None
    for line, examples in chosen:
        if not examples:
            continue
        source = _source(rows, line[0])
        config = from_mapping(AttackCommandConfig, source["config"], "the metadata of row files")
        config = dataclasses.replace(
            config, limit=None, out=None, save_wav=False, stoi=False, by=None
        )
        key = (config.victim, config.corpus, config.split, config.target, config.seed)
        if heard is None or heard[0] != key:
            heard = key, load_speech(dataclasses.replace(config, show=()))
        _check_same(source, config, heard[1])
        yield from _made_again(config, heard[1], examples)


def _examples(rows: Rows, line: Sequence[Setting], count: int) -> list[_Example]:
    """Utterances of the first seed, each at the weakest ε that did what the attack wanted."""
    found: dict[str, _Example] = {}
    seed = rows.numbers["seed"][line[0].where].min()
    for setting in line:  # ε from weak to strong
        where = setting.where[rows.numbers["seed"][setting.where] == seed]
        where = where[rows.numbers["success"][where].astype(bool)]
        columns = ("utterance", "label", "clean_prediction", "prediction")
        told = (rows.words(column, where) for column in columns)
        for utterance, label, before, after in zip(*told, strict=True):
            if before != after and utterance not in found:
                found[utterance] = _Example(setting, utterance, label, before, after)
    ordered = [found[name] for name in sorted(found)]
    if len(ordered) <= count:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def _source(rows: Rows, setting: Setting) -> Mapping[str, Any]:
    """What made the rows of a setting; of several seeds the first."""
    facts = setting.facts
    seed = int(rows.numbers["seed"][setting.where].min())
    for source in rows.sources:
        config = source["config"]
        goal = f"→ {config['target']}" if config["target"] is not None else config["y"]
        same = {
            "corpus": source["corpus"]["title"],
            "split": config["split"],
            "domain": config["domain"],
            "attack": source["attack"]["name"],
            "parameters": source["attack"]["parameters"],
            "goal": goal,
            "epsilon_unit": config["epsilon_unit"],
        }
        is_victim = facts["victim"] in (
            source["victim"]["name"],
            f"{source['victim']['name']} ({source['victim']['fingerprint'][:8]})",
        )
        if is_victim and config["seed"] == seed and all(facts[k] == v for k, v in same.items()):
            return source
    raise InputError(
        f"the rows of {setting.label} on {facts['victim']} do not say how they were made, so their "
        "speech cannot be made again; leave --audio out, or attack again."
    )


def _check_same(source: Mapping[str, Any], config: AttackCommandConfig, heard: Speech) -> None:
    """Refuse another victim or other speech than the rows are of."""
    for what, before, now in (
        (f"the victim in {config.victim}", source["victim"]["fingerprint"], heard.fingerprint),
        ("the speech", source["corpus"]["fingerprint"], heard.prepared.fingerprint),
    ):
        if before != now:
            raise InputError(
                f"{what} is not what the rows are of ({now[:8]} now, {before[:8]} then); leave "
                "--audio out, or attack again."
            )


def _made_again(
    config: AttackCommandConfig, heard: Speech, examples: Sequence[_Example]
) -> Iterator[Section]:
    names = [utterance.id for utterance in heard.utterances]
    for example in examples:
        if example.utterance not in names:
            raise InputError(f"the corpus has no utterance {example.utterance} any more.")
    wanted = heard.take(np.array([names.index(example.utterance) for example in examples]))
    epsilons = dict.fromkeys(example.setting.facts["epsilon"] for example in examples)
    again = dataclasses.replace(
        config, epsilon=tuple(epsilons), show=tuple(example.utterance for example in examples)
    )
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(again, wanted, Path(folder))
        attack_missing_rows(run)
        for example, utterance in zip(examples, run.utterances, strict=True):
            yield _section(
                example, run.picture_path(utterance, example.setting.facts["epsilon"]), run
            )


def _section(example: _Example, picture: Path, run: Run) -> Section:
    setting = example.setting
    (x, rate), (x_adv, _) = (
        read_audio(picture.with_name(f"{kind}.wav")) for kind in ("original", "adversarial")
    )
    delta = x_adv - x
    # As loud as the speech, so that it can be heard.
    gain = float(np.abs(x).max() / np.abs(delta).max())
    after = "nothing" if example.after is None else example.after
    title = f"{example.utterance}: {setting.label} on {setting.facts['victim']}"
    changed = f"taken for {example.before}, and after the attack for {after}"
    rows = run.rows().to_pylist()
    (made,) = [
        row["prediction"]
        for row in rows
        if (row["utterance"], row["epsilon"]) == (example.utterance, setting.facts["epsilon"])
    ]
    if made != example.after:
        changed += f" (made again, for {made})"
    sounds = {
        "original": x,
        "adversarial": x_adv,
        f"difference, {20 * math.log10(gain):.0f} dB louder": gain * delta,
    }
    return Section(
        title,
        "",
        text=f"{speech(setting)}, ε {epsilon_text(setting)}; said as {example.label}, {changed}.",
        pictures=[
            Picture(
                perturbation_figure(title, x[:, 0], x_adv[:, 0], rate),
                "Waveforms, levels and log-mel spectrograms of the original, the adversarial "
                f"speech and their difference: {title}.",
                f"speech_{file_stem(title)}",
            )
        ],
        group=_GROUP,
        audio={name: encode_wav(samples, rate, "PCM_16") for name, samples in sounds.items()},
    )
