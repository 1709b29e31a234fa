"""What a victim's last linear layer reads, as a map in a plane."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxser.results.cells import Cells
from jaxser.runtime.errors import UsageError
from jaxser.runtime.text import counted
from jaxser.victims.victim import Victim

__all__ = [
    "check_perplexity",
    "check_tsne",
    "embeddings",
    "lacks_for_tsne",
    "points_table",
    "tsne",
]

# Rows that are looked at together.
_ROWS = 16


def check_perplexity(perplexity: float, utterances: int) -> None:
    """Refuse to look for more neighbours than there are; UsageError."""
    lacking = _lacks_neighbours(perplexity, utterances)
    if lacking:
        raise UsageError(f"{lacking}, or --show without tsne.")


def check_tsne() -> None:
    """UsageError where scikit-learn is not there."""
    lacking = _lacks_package()
    if lacking:
        raise UsageError(f"{lacking}.")


def lacks_for_tsne(victim: Victim, perplexity: float, utterances: int) -> str:
    """Why there can be no map of a victim's last layer, without a full stop; "" where it can be.

    Args:
      victim: loaded.
      perplexity: how many neighbours t-SNE is to look for around each point.
      utterances: that are drawn, each clean and attacked.
    """
    if victim.embed is None:
        return f"{victim.name} does not tell what its last layer reads"
    return _lacks_package() or _lacks_neighbours(perplexity, utterances)


def _lacks_package() -> str:
    if importlib.util.find_spec("sklearn") is not None:
        return ""
    return "t-SNE needs scikit-learn: pip install 'jaxser[explain]'"


def _lacks_neighbours(perplexity: float, utterances: int) -> str:
    # Clean and attacked inputs are points of their own.
    if perplexity < 2 * utterances:
        return ""
    return (
        f"a perplexity of {perplexity:g} needs more than {counted(utterances, 'utterance')}; give "
        "a smaller --perplexity or a larger --limit"
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
