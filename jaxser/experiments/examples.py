"""Adversarial examples as files: WAV to listen to, pictures, and arrays for a report."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxser.driver.row_block import RowBlock
from jaxser.experiments.run import Run
from jaxser.reporting.example import write_example
from jaxser.runtime.files import atomic_file
from jaxser.speech.audio import write_wav

__all__ = ["told_files", "write_examples"]


def write_examples(run: Run, where: np.ndarray, block: RowBlock) -> None:
    """Write the files that ``run`` asks for.

    Args:
      run: that the block is of.
      where: places of the block's rows among the run's utterances, ``[rows]``.
      block: what the driver has finished.
    """
    if run.config.save_wav:
        _write_wav(run, where, block)
    if run.examples:
        _write_array(run, where, block)
    if run.shown:
        _show(run, where, block)


def told_files(run: Run) -> Iterator[str]:
    """Lines that say where the files lie that ``run`` asked for."""
    if not len(run.utterances):
        return
    first, count = run.utterances[0], len(run.utterances) * len(run.epsilons)
    if run.config.save_wav:
        yield f"{count} WAV files as {_near(run.wav_path(first, run.epsilons[0]))}"
        yield f"each beside the original, {_near(run.original_path(first))}"
    for i in run.shown:
        for epsilon in run.epsilons:
            folder = _near(run.picture_path(run.utterances[i], epsilon).parent)
            yield f"{run.utterances[i].id} at epsilon {epsilon:g} to see and to hear in {folder}"


def _near(path: Path) -> Path:
    """As seen from the working folder, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _write_wav(run: Run, where: np.ndarray, block: RowBlock) -> None:
    """The very samples that fooled the victim, none rounded to 16 bits; or what features sound
    like. The original is heard the same way."""
    assert block.x_adv is not None
    rate, places = run.speech.victim.sample_rate, run.speech.places
    for i, e, x_adv in zip(where, block.epsilon_index, block.x_adv, strict=True):
        utterance = run.utterances[i]
        original = run.original_path(utterance)
        # First, so that who finds the adversarial one finds both.
        if not original.exists():
            write_wav(original, _heard(run, run.speech.inputs[places[i]]), rate)
        write_wav(run.wav_path(utterance, run.epsilons[e]), _heard(run, x_adv), rate)


def _heard(run: Run, x: np.ndarray) -> np.ndarray:
    """Speech as it is, or what features sound like."""
    if run.config.domain != "features":
        return x
    victim = run.speech.victim
    assert victim.front_end is not None
    return victim.front_end.speech(victim.variables, x)


def _show(run: Run, where: np.ndarray, block: RowBlock) -> None:
    assert block.x_adv is not None
    rate = run.speech.victim.sample_rate
    for i, e, x_adv in zip(where, block.epsilon_index, block.x_adv, strict=True):
        if i in run.shown:
            utterance, x = run.utterances[i], run.speech.inputs[run.speech.places[i]]
            picture = run.picture_path(utterance, run.epsilons[e])
            title = f"{utterance.id}, {run.attack.name}, ε {run.epsilons[e]:g}"
            write_example(picture.parent, title, x, x_adv, rate)


def _write_array(run: Run, where: np.ndarray, block: RowBlock) -> None:
    assert block.x_adv is not None
    for i, e, x in zip(where, block.epsilon_index, block.x_adv, strict=True):
        if i in run.examples:
            with atomic_file(run.example_path(run.utterances[i], run.epsilons[e])) as temporary:
                np.save(temporary, x)
