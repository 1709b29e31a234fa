"""What a trained victim makes of whole parts of a corpus: predictions, and the figures of a run.

evaluate = Evaluation(model, num_classes)
evaluate.figures(validation, variables)                   # of an epoch
results = final_results(config, corpus, evaluate, parts, record, like, writer)
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from jaxser.config import TrainConfig, to_mapping
from jaxser.corpora import Corpus, Utterance
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.confusion import confusion_figure
from jaxser.reporting.figures.training import robust_training_figure
from jaxser.results.intervals import estimates
from jaxser.results.metrics import accuracy, confusion_matrix, macro_f1, uar
from jaxser.results.units import Over, Units
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.files import write_text
from jaxser.runtime.sharding import placed_like
from jaxser.runtime.together import is_first, wait_for_first
from jaxser.training.input_pipeline import WaveformSource, evaluation_batches
from jaxser.training.victim import make_evaluation_step
from jaxser.training.writer import RunWriter

__all__ = ["Evaluation", "final_results", "metrics_with_intervals", "units_of_each"]

_METRICS = {"accuracy": accuracy, "uar": uar, "macro_f1": macro_f1}

# Of the best epoch of a run that was trained against an attack.
_WATCHED = (
    *("watched_accuracy", "robust_accuracy"),
    *("val_watched_accuracy", "val_robust_accuracy", "val_robust_uar"),
)

# Rows of an evaluation batch: enough to keep two cores busy, little memory.
_EVALUATION_ROWS = 32


class Evaluation:
    """Predictions over whole parts, through one compiled program.

    Attributes:
      num_classes: of the victim.
    """

    def __init__(self, model: nn.Module, num_classes: int) -> None:
        self._step = jax.jit(make_evaluation_step(model))
        self.num_classes = num_classes

    def predict(
        self, source: WaveformSource, variables: Any
    ) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, "rows classes"]]:
        """(cross-entropy, logits) of every row."""
        losses, logits = [], []
        for batch, count in evaluation_batches(source, batch_size=_EVALUATION_ROWS):
            loss, found = self._step(variables, batch)
            losses.append(np.asarray(loss)[:count])
            logits.append(np.asarray(found)[:count])
        return np.concatenate(losses), np.concatenate(logits)

    def figures(self, source: WaveformSource, variables: Any) -> dict[str, float]:
        """Validation figures of an epoch."""
        losses, logits = self.predict(source, variables)
        predictions = logits.argmax(axis=1)
        matrix = confusion_matrix(source.labels[source.rows], predictions, self.num_classes)
        return {
            "val_loss": float(losses.mean()),
            **{f"val_{name}": float(metric(matrix)) for name, metric in _METRICS.items()},
        }


def final_results(
    config: TrainConfig,
    corpus: Corpus,
    evaluate: Evaluation,
    parts: Mapping[str, WaveformSource],
    record: Mapping[str, Any],
    like: Any,
    writer: RunWriter,
) -> dict[str, Any]:
    """Evaluate the best checkpoint on ``parts``; return the figures, which process 0 writes."""
    wait_for_first()  # which has saved the best one
    # Where the validation of each epoch found them, so that its program serves here.
    variables = placed_like(load_variables(config.out / "checkpoints", like), like)
    results: dict[str, Any] = {
        "corpus": corpus.title,
        "synthetic": corpus.synthetic,
        "notes": list(corpus.notes),
        "best_epoch": record["best_epoch"],
        "epochs": len(record["history"]),
    }
    best = record["history"][record["best_epoch"] - 1]
    watched = {name: best[name] for name in _WATCHED if name in best}
    if watched:
        results["watched"] = watched
    step = record["history"][-1]["step"]
    for part, source in parts.items():
        if len(source) == 0:
            continue
        losses, logits = evaluate.predict(source, variables)
        truth = source.labels[source.rows]
        utterances = [corpus.utterances[row] for row in source.rows]
        results[part] = {
            "loss": float(losses.mean()),
            **_figures_of_part(truth, logits, utterances, corpus.labels),
        }
        if not is_first():
            continue
        figure = confusion_figure(
            np.asarray(results[part]["confusion"]),
            corpus.labels,
            f"{config.model.name}, {corpus.title}, {part}",
        )
        save_figure(figure, config.out / f"confusion_{part}.png")
        writer.figure(f"confusion/{part}", figure, step)
        if part == "test":
            figures = {name: results[part][name]["value"] for name in _METRICS}
            writer.scalars("test", {"loss": results[part]["loss"], **figures}, step)
    if not is_first():
        return results
    if "robust_accuracy" in record["history"][-1]:
        title = f"{config.model.name}, {corpus.title}, against {config.training.adversarial.attack}"
        figure = robust_training_figure(record["history"], record["best_epoch"], title)
        save_figure(figure, config.out / "robustness.png")
        writer.figure("robustness", figure, step)
    told = "test" if "test" in results else "val"
    writer.hyperparameters(to_mapping(config), [f"{told}/{name}" for name in ("loss", *_METRICS)])
    write_text(config.out / "results.json", json.dumps(results, indent=1) + "\n")
    return results


def _figures_of_part(
    truth: Int[np.ndarray, " rows"],
    logits: Float[np.ndarray, "rows classes"],
    utterances: Sequence[Utterance],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Figures of every row; where rows are windows or chunks, also of the whole utterances."""
    predictions = logits.argmax(axis=1)
    genders = np.array([utterance.gender for utterance in utterances])
    figures = {
        "utterances": _whole(utterances),
        "speakers": len({utterance.speaker for utterance in utterances}),
        "confusion": confusion_matrix(truth, predictions, len(labels)).tolist(),
        **metrics_with_intervals(truth, predictions, utterances, labels),
        "by_gender": {
            gender: {
                "utterances": _whole(each for each in utterances if each.gender == gender),
                **metrics_with_intervals(
                    truth[genders == gender],
                    predictions[genders == gender],
                    [each for each in utterances if each.gender == gender],
                    labels,
                ),
            }
            for gender in sorted(set(genders) - {"unknown"})
        },
    }
    if any(each.source for each in utterances):
        figures["rows"] = len(utterances)
        figures["whole_utterances"] = _of_whole_utterances(truth, logits, utterances, labels)
    return figures


def _of_whole_utterances(
    truth: Int[np.ndarray, " rows"],
    logits: Float[np.ndarray, "rows classes"],
    utterances: Sequence[Utterance],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Figures where an utterance's logits are the mean over its windows or chunks.

    Augmented versions are left out: nobody has spoken them.
    """
    spoken = np.array([not each.variant for each in utterances])
    kept = [each for each in utterances if not each.variant]
    names, first, whole = np.unique(
        [each.whole for each in kept], return_index=True, return_inverse=True
    )
    mean = np.zeros((len(names), logits.shape[1]))
    np.add.at(mean, whole, logits[spoken])
    mean /= np.bincount(whole)[:, None]
    return {
        "utterances": len(names),
        **metrics_with_intervals(
            truth[spoken][first], mean.argmax(axis=1), [kept[i] for i in first], labels
        ),
    }


def metrics_with_intervals(
    truth: np.ndarray,
    predictions: np.ndarray,
    utterances: Sequence[Utterance],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Each metric with its 95% intervals over utterances and over speakers."""
    found = {
        over: estimates(_METRICS, truth, predictions, labels, units)
        for over, units in units_of_each(utterances).items()
    }
    return {
        name: {
            "value": found["utterance"][name].value,
            **{f"interval_{over}s": [its[name].low, its[name].high] for over, its in found.items()},
        }
        for name in _METRICS
    }


def _whole(utterances: Iterable[Utterance]) -> int:
    """How many whole utterances, whatever number of chunks each has."""
    return len({each.whole for each in utterances})


def units_of_each(utterances: Sequence[Utterance]) -> dict[Over, Units]:
    """Units of one row per utterance, over utterances and over speakers."""
    ids, speakers = [each.id for each in utterances], [each.speaker for each in utterances]
    sources = [each.whole for each in utterances]
    return {over: Units.of(ids, speakers, over, sources=sources) for over in get_args(Over)}
