"""What is explained: utterances before and after an attack, classes, baselines and examples.

looked = attack_once(run, batch_size=None)
before, after = explained_classes(looked, "prediction")
attributions(looked.speech.victim, looked.x, before, ("saliency",))
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from jaxser.config.explain import Baseline, Explained
from jaxser.config.ranges import Domain
from jaxser.driver.meter import Progress
from jaxser.driver.progress import AttackBar
from jaxser.driver.run import attack_rows
from jaxser.driver.speech import Speech
from jaxser.experiments.run import Run
from jaxser.models.front_end import WithFrontEnd
from jaxser.models.image_front_end import WithImage
from jaxser.reporting.figures.explanations import Example
from jaxser.runtime.stages import stage
from jaxser.speech.features import Spectrogram

__all__ = [
    "Looked",
    "attack_once",
    "baselines",
    "example_rows",
    "examples_of",
    "explained_classes",
    "likeliest_others",
    "progress_bar",
    "spectrogram_of",
]

# Classes of which an utterance is drawn.
_MOST_EXAMPLES = 8

# A terminal sees that the run is alive; a file gets a line now and then.
_SECONDS_BETWEEN_BARS = 1.0
_SECONDS_BETWEEN_LINES = 30.0


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """A victim's utterances before and after an attack.

    Attributes:
      speech: the victim and the utterances; the clean predictions.
      x, x_adv: inputs, clean and attacked.
      after: predictions of the attacked ones, -1 where logits are not finite.
      domain: of the inputs.
    """

    speech: Speech
    x: Float[np.ndarray, "rows ..."]
    x_adv: Float[np.ndarray, "rows ..."]
    after: Int[np.ndarray, " rows"]
    domain: Domain

    @property
    def before(self) -> Int[np.ndarray, " rows"]:
        """Predictions of the clean ones."""
        return self.speech.clean.prediction

    @property
    def ids(self) -> list[str]:
        """Of the utterances."""
        return [utterance.id for utterance in self.speech.utterances]


def attack_once(run: Run, batch_size: int | None) -> Looked:
    """Attack every utterance of a run at its first ε; nothing is written."""
    speech, config = run.speech, run.config
    x = np.asarray(speech.inputs[speech.places], np.float32)
    x_adv, after = np.zeros_like(x), np.zeros(len(x), np.int32)
    stage("attacking", shown=False)
    with AttackBar(run.attack.name, len(x)) as bar:

        def watch(progress: Progress) -> bool:
            bar.watch(progress)
            return True

        for block in attack_rows(
            speech.victim,
            x,
            run.attacked,
            run.attack,
            run.epsilons[:1],
            seed=config.seed,
            ids=[utterance.id for utterance in speech.utterances],
            batch_size=batch_size,
            keep_x_adv=True,
            clean=speech.clean,
            watch=watch,
        ):
            assert block.x_adv is not None
            where = block.utterance
            x_adv[where], after[where] = block.x_adv, block.prediction
            bar.add(block, speech.labels[where], speech.clean.prediction[where])
    return Looked(speech, x, x_adv, after, config.domain)


def explained_classes(
    looked: Looked, explained: Explained
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """Whose logits are explained, of the clean and of the attacked inputs."""
    if explained == "truth":
        return looked.speech.labels, looked.speech.labels
    return looked.before, looked.before if explained == "clean" else looked.after


def likeliest_others(looked: Looked, classes: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """Of every clean input the class with the largest logit beside a given one."""
    logits = looked.speech.clean.logits.copy()
    logits[np.arange(len(logits)), classes] = -np.inf
    return logits.argmax(axis=1)


def progress_bar(what: str, rows: int) -> "tqdm[Any]":
    """Of attributions, each of which is a minute or many on a CPU."""
    return tqdm(
        total=rows,
        desc=what,
        unit="rows",
        mininterval=_SECONDS_BETWEEN_BARS if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES,
        dynamic_ncols=True,
    )


def baselines(
    looked: Looked, kind: Baseline | None, rows: Int[np.ndarray, " some"], seed: int
) -> Float[np.ndarray, "some ..."]:
    """Where the paths of integrated gradients begin: inputs made of silence, or of noise.

    Most victims that hear waveforms normalise their loudness, so that all that lies between silence
    and an utterance is the utterance to them, and attributions from silence are zero. Noise of the
    utterance's own loudness is another sound.

    Args:
      looked: inputs.
      kind: noise for waveforms and silence for all else by default.
      rows: of the inputs.
      seed: of the noise, which is the same for all but for its loudness.
    """
    speech = looked.speech
    kind = kind or ("noise" if looked.domain == "waveform" else "silence")
    heard = np.asarray(speech.prepared.waveforms[speech.positions[rows]], np.float32)
    if kind == "silence":
        sound = np.zeros_like(heard)
    else:
        noise = np.random.default_rng(seed).normal(size=heard.shape[1])
        noise /= np.sqrt(np.mean(noise**2))
        loudness = np.sqrt(np.mean(heard.astype(np.float64) ** 2, axis=1, keepdims=True))
        sound = (loudness * noise).astype(np.float32)
    if looked.domain == "waveform":
        return sound
    front_end = speech.victim.front_end
    assert front_end is not None
    return np.asarray(jax.jit(front_end.features)(speech.victim.variables, sound))


def example_rows(looked: Looked) -> Int[np.ndarray, " examples"]:
    """An utterance of each class: one that was right and is not any more, if there is one."""
    labels, chosen = looked.speech.labels, []
    right = looked.before == labels
    for label in np.unique(labels)[:_MOST_EXAMPLES]:
        of_class = labels == label
        for wanted in (of_class & right & (looked.after != labels), of_class & right, of_class):
            if wanted.any():
                chosen.append(int(wanted.argmax()))
                break
    return np.array(chosen)


def examples_of(
    looked: Looked,
    rows: Int[np.ndarray, " examples"],
    maps: tuple[np.ndarray, np.ndarray],
    pictures: bool,
) -> list[Example]:
    """What figures draw.

    Args:
      looked: inputs.
      rows: of the examples.
      maps: of these alone, clean and attacked.
      pictures: whether the maps are of pictures, or of waveforms.
    """
    names, labels = looked.speech.victim.labels, looked.speech.labels
    shown = [looked.x[rows], looked.x_adv[rows]]
    found = list(maps)
    if pictures:
        shown = [_pictures(looked, each) for each in shown]
        if not isinstance(_model(looked), WithImage):
            found = [_upright(each) for each in found]

    def said(prediction: int) -> str:
        return names[prediction] if prediction >= 0 else "no prediction"

    return [
        Example(
            name=f"{names[labels[row]]}\n{looked.ids[row]}",
            inputs=(shown[0][place], shown[1][place]),
            maps=(found[0][place], found[1][place]),
            said=(said(looked.before[row]), said(looked.after[row])),
        )
        for place, row in enumerate(rows)
    ]


def spectrogram_of(looked: Looked) -> Spectrogram:
    """That the victim reads."""
    model = _model(looked)
    return model.front_end.spectrogram if isinstance(model, WithImage) else model.front_end


def _model(looked: Looked) -> WithImage | WithFrontEnd:
    look = looked.speech.victim.feature_map
    assert look is not None
    assert isinstance(look.model, WithImage | WithFrontEnd)
    return look.model


def _pictures(looked: Looked, x: Float[np.ndarray, "rows ..."]) -> np.ndarray:
    """What the network reads of inputs, the lowest band in the last row: levels, dB or colours."""
    victim = looked.speech.victim
    front_end = victim.front_end
    assert front_end is not None
    if looked.domain == "waveform":
        x = np.asarray(jax.jit(front_end.features)(victim.variables, x))
    if isinstance(_model(looked), WithImage):
        return x[..., 0] if x.shape[-1] == 1 else np.clip(x, 0.0, 1.0)
    return _upright(np.asarray(jax.jit(front_end.spectrogram)(victim.variables, x)))


def _upright(maps: Float[np.ndarray, "rows frames bins"]) -> Float[np.ndarray, "rows bins frames"]:
    return maps.swapaxes(1, 2)[:, ::-1]
