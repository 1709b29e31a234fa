"""Adversarial examples as files: WAV to listen to, pictures, and arrays for a report."""

import numpy as np

from jaxser.driver.row_block import RowBlock
from jaxser.experiments.run import Run
from jaxser.reporting.example import write_example
from jaxser.runtime.files import atomic_file
from jaxser.speech.audio import write_wav

__all__ = ["write_examples"]


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


def _write_wav(run: Run, where: np.ndarray, block: RowBlock) -> None:
    """The very samples that fooled the victim, none rounded to 16 bits; or what features sound
    like."""
    assert block.x_adv is not None
    victim = run.speech.victim
    for i, e, samples in zip(where, block.epsilon_index, block.x_adv, strict=True):
        path = run.wav_path(run.utterances[i], run.epsilons[e])
        if run.config.domain == "features":
            assert victim.front_end is not None
            samples = victim.front_end.speech(victim.variables, samples)
        write_wav(path, samples, victim.sample_rate)


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
