"""What a victim's last linear layer reads, as a map in a plane."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxser.results.cells import Cells
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

__all__ = [
    "check_perplexity",
    "check_tsne",
    "embeddings",
    "has_neighbours",
    "has_tsne",
    "points_table",
    "tsne",
]

# Rows that are looked at together.
_ROWS = 16


def has_neighbours(perplexity: float, utterances: int) -> bool:
    """Whether clean and attacked inputs are as many as t-SNE is to look for around each."""
    return perplexity < 2 * utterances


def check_perplexity(perplexity: float, utterances: int) -> None:
    """Refuse to look for more neighbours than there are; UsageError."""
    if not has_neighbours(perplexity, utterances):
        raise UsageError(
            f"a perplexity of {perplexity:g} needs more than {utterances} utterances; give a "
            "smaller --perplexity or a larger --limit, or --show without tsne."
        )


def has_tsne() -> bool:
    """Whether scikit-learn is there."""
    return importlib.util.find_spec("sklearn") is not None


def check_tsne() -> None:
    """UsageError where scikit-learn is not there."""
    if not has_tsne():
        raise UsageError("t-SNE needs scikit-learn: pip install 'jaxser[explain]'.")


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
    check_tsne()
    from sklearn.manifold import TSNE

    # Of constant features the principal components are not defined.
    varied = features[:, features.std(axis=0) > 0]
    if varied.shape[1] < 2:
        return np.zeros((len(features), 2))
    made: Any = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32)
    points: np.ndarray = made.fit_transform(varied)
    return points


def points_table(
    ids: Sequence[str],
    labels: Int[np.ndarray, " rows"],
    names: Sequence[str],
    points: dict[str, tuple[Float[np.ndarray, "rows 2"], Int[np.ndarray, " rows"]]],
) -> Cells:
    """A line for each point.

    Args:
      ids: of the utterances.
      labels: their true classes.
      names: of the classes.
      points: by kind, "clean" or "attacked": places and predictions.
    """
    cells = [["utterance", "label", "kind", "prediction", "x", "y"]]
    for kind, (places, predictions) in points.items():
        for i, each in enumerate(ids):
            found = predictions[i]
            cells.append(
                [
                    *(each, names[labels[i]], kind),
                    names[found] if found >= 0 else "",
                    *(f"{value:.4g}" for value in places[i]),
                ]
            )
    return cells
