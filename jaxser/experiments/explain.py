"""What a victim's last layer reads of clean and attacked inputs, as a map.

print(explain(ExplainConfig(victim=Path("runs/alexnet_emodb"), domain="image")))
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxser.config import AttackCommandConfig
from jaxser.config.explain import ExplainConfig
from jaxser.driver.run import run_attack
from jaxser.driver.speech import Speech
from jaxser.experiments.preparation import prepare_run
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.embedding import embedding_figure
from jaxser.results.cells import csv_text, percent
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import write_text
from jaxser.victims.victim import Victim

__all__ = ["embeddings", "explain", "tsne"]

# Rows that are looked at together.
_ROWS = 16


def explain(config: ExplainConfig) -> str:
    """Write the map of clean and attacked inputs; returns what to tell of it.

    Raises:
      UsageError, InputError: see the message.
    """
    run = prepare_run(_attack_config(config))
    speech, victim = run.speech, run.speech.victim
    if victim.embed is None:
        raise UsageError(
            f"{victim.name} in {config.victim} does not tell what its last layer reads; victims "
            "that read images do."
        )
    if config.perplexity >= 2 * len(speech.positions):
        raise UsageError(
            f"a perplexity of {config.perplexity:g} needs more than {len(speech.positions)} "
            "utterances; give a smaller --perplexity or a larger --limit."
        )
    x = np.asarray(speech.inputs[speech.places])
    result = run_attack(
        victim,
        x,
        run.attacked,
        run.attack,
        run.epsilons,
        seed=config.seed,
        ids=[utterance.id for utterance in speech.utterances],
    )
    points = tsne(
        np.concatenate([embeddings(victim, x), embeddings(victim, result.x_adv[0])]),
        config.perplexity,
        config.seed,
    )
    clean, attacked = points[: len(x)], points[len(x) :]
    folder = config.out or config.victim / "explain"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{victim.name}, {speech.prepared.corpus.title}, {config.split}"
    attack = f"{run.attack.name}, ε {config.epsilon:g} of the {config.domain}"
    figure = embedding_figure(clean, attacked, speech.labels, victim.labels, title, attack)
    save_figure(figure, folder / "tsne.png")
    write_text(folder / "tsne.csv", csv_text(_table(speech, clean, attacked, result.prediction[0])))
    right = speech.clean.prediction == speech.labels
    after = result.prediction[0] == speech.labels
    return "\n".join(
        [
            f"{title}: {len(x)} inputs, accuracy {percent(float(right.mean()))}, after {attack} "
            f"{percent(float(after.mean()))}",
            *(f"note: {note}" for note in speech.notes),
            f"map in {folder / 'tsne.png'}, its points in {folder / 'tsne.csv'}",
        ]
    )


def _attack_config(config: ExplainConfig) -> AttackCommandConfig:
    return AttackCommandConfig(
        victim=config.victim,
        attack=config.attack,
        epsilon=(config.epsilon,),
        params=config.params,
        domain=config.domain,
        split=config.split,
        limit=config.limit,
        seed=config.seed,
        corpus=config.corpus,
    )


def embeddings(
    victim: Victim, x: Float[np.ndarray, "rows ..."]
) -> Float[np.ndarray, "rows features"]:
    """What the last linear layer of ``victim`` reads of inputs."""
    assert victim.embed is not None
    embed = jax.jit(victim.embed)
    found = []
    for start in range(0, len(x), _ROWS):
        rows = np.resize(np.arange(start, min(start + _ROWS, len(x))), _ROWS)
        found.append(np.asarray(embed(victim.variables, x[rows])))
    return np.concatenate(found)[: len(x)]


def tsne(
    features: Float[np.ndarray, "points features"], perplexity: float, seed: int
) -> Float[np.ndarray, "points 2"]:
    """scikit-learn's t-SNE, begun at the principal components.

    Raises:
      UsageError: scikit-learn is not there.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UsageError("t-SNE needs scikit-learn: pip install 'jaxser[explain]'.") from error
    # Of constant features the principal components are not defined.
    varied = features[:, features.std(axis=0) > 0]
    if varied.shape[1] < 2:
        return np.zeros((len(features), 2))
    made: Any = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32)
    points: np.ndarray = made.fit_transform(varied)
    return points


def _table(
    speech: Speech, clean: np.ndarray, attacked: np.ndarray, after: np.ndarray
) -> list[list[str]]:
    names = speech.victim.labels
    cells = [["utterance", "label", "kind", "prediction", "x", "y"]]
    predictions = {"clean": speech.clean.prediction, "attacked": after}
    for kind, points in (("clean", clean), ("attacked", attacked)):
        for i, utterance in enumerate(speech.utterances):
            found = predictions[kind][i]
            cells.append(
                [
                    *(utterance.id, names[speech.labels[i]], kind),
                    names[found] if found >= 0 else "",
                    *(f"{value:.4g}" for value in points[i]),
                ]
            )
    return cells
