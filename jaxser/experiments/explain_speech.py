"""What a victim is given and what it is made of, without any attack.

    explain_speech(config, Path("runs/cnn_lstm_emodb"), folder)

Facchinetti et al., 2024: figure 2 (an utterance trimmed, cut and repeated), figure 3 (the network),
and the choice of classes by PCA and t-SNE of section 2.2.1.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxser.config import TrainConfig
from jaxser.config.corpus import CorpusConfig
from jaxser.config.explain import OF_SPEECH, ExplainConfig
from jaxser.corpora import Utterance, load
from jaxser.corpora.chunks import Chunking, chunks_of, trim_silence
from jaxser.corpora.selection import label_indices, prepared_speech, spread_rows
from jaxser.experiments.last_layer import check_tsne, tsne
from jaxser.experiments.shown import place_of
from jaxser.models.cnn_lstm import CnnLstm
from jaxser.models.cnn_lstm_layers import cnn_lstm_layers
from jaxser.models.front_end import WithFrontEnd
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.preparation import classes_figure, layers_figure, preparation_figure
from jaxser.results.cells import csv_text
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.files import write_text
from jaxser.speech.audio import read_audio, resample, to_mono
from jaxser.speech.features import Spectrogram
from jaxser.victims.module import build_module
from jaxser.victims.run_folder import read_run

__all__ = ["class_correlation", "explain_speech", "principal_components"]

# Spectrograms that are made at once, and components that t-SNE is given.
_ROWS, _COMPONENTS = 32, 50


def explain_speech(config: ExplainConfig, victim: Path, folder: Path) -> list[str]:
    """Draw what is asked for of it; returns what to tell.

    Args:
      config: of the command.
      victim: run folder.
      folder: that the pictures go to.

    Raises:
      UsageError, InputError: see the message.
    """
    asked = [picture for picture in OF_SPEECH if picture in config.show]
    if not asked:
        return []
    trained, facts = read_run(victim)
    model = build_module(trained, len(facts["labels"]))
    if not isinstance(model, WithFrontEnd):
        raise UsageError(
            f"--show {' '.join(asked)} is for victims of spectrograms, and {trained.model.name} in "
            f"{victim} is none; leave it out."
        )
    places = {"root": config.corpus.root, "cache_dir": config.corpus.cache_dir}
    given: dict[str, Any] = {name: value for name, value in places.items() if value is not None}
    trained = dataclasses.replace(trained, corpus=dataclasses.replace(trained.corpus, **given))
    folder.mkdir(parents=True, exist_ok=True)
    told: list[str] = []
    if "preparation" in asked:
        told += _draw_preparation(config, trained, model.front_end, folder)
    if "architecture" in asked:
        told += _draw_architecture(trained, model, folder)
    if "classes" in asked:
        told += _draw_classes(config, trained.corpus, model.front_end, folder)
    return told


# --- an utterance on its way to the network --------------------------------------------------


def _draw_preparation(
    config: ExplainConfig, trained: TrainConfig, front_end: Spectrogram, folder: Path
) -> list[str]:
    corpus = trained.corpus
    if not corpus.chunks:
        raise UsageError(
            "preparation shows how chunks are cut, and the victim reads whole utterances "
            "(corpus.chunks is false); give another --show."
        )
    utterance = _utterance(config, corpus)
    samples, rate = read_audio(utterance.path)
    x = resample(to_mono(samples, corpus.channel), rate, corpus.sample_rate)
    chunking, length = Chunking(), corpus.num_samples
    trimmed = trim_silence(x, chunking)
    stages = [("as recorded", x), ("silence trimmed", trimmed)]
    for chunk in chunks_of(x, corpus.sample_rate, length, chunking):
        cut = trimmed[chunk.number * length : (chunk.number + 1) * length]
        stages.append((f"chunk {chunk.number}: cut", cut))
        if not np.array_equal(cut, chunk.samples):
            whole = f"trimmed and repeated to {corpus.seconds:g} s"
            stages.append((f"chunk {chunk.number}: {whole}", chunk.samples))
    # One program for all: beyond its ends an utterance is silent, for the front end too.
    longest = max(len(each) for _, each in stages)
    padded = np.stack([np.pad(each, (0, longest - len(each))) for _, each in stages])
    # And one 0 dB for all, which is not what each would have of its own.
    spectrograms = np.asarray(jax.jit(dataclasses.replace(front_end, ref=1.0))(padded))
    drawn = [
        (name, values[: front_end.frames(len(each))], len(each) / corpus.sample_rate)
        for (name, each), values in zip(stages, spectrograms, strict=True)
    ]
    path = folder / "preparation.png"
    save_figure(preparation_figure(f"{utterance.id} ({utterance.label})", drawn), path)
    return [f"{utterance.id} trimmed, cut and repeated in {path}"]


def _utterance(config: ExplainConfig, corpus: CorpusConfig) -> Utterance:
    """The one asked for, or the first that is cut into two; else into most."""
    assert corpus.root is not None
    known = {
        u.id: u for u in load(corpus.name, corpus.root, labels=corpus.labels or None).utterances
    }
    if config.utterance is not None:
        utterances = list(known.values())
        place = place_of("--utterance", config.utterance, utterances)
        if place is None:
            raise UsageError(
                f"--utterance {config.utterance!r} is not in {corpus.name}; "
                f"{nearest_name(config.utterance, known)}"
            )
        return utterances[place]
    spoken = [u for u in prepared_speech(corpus).corpus.utterances if not u.variant]
    counts = Counter(u.whole for u in spoken)
    return known[min(counts, key=lambda name: (counts[name] != 2, -counts[name]))]


# --- the network -----------------------------------------------------------------------------


def _draw_architecture(trained: TrainConfig, model: WithFrontEnd, folder: Path) -> list[str]:
    network = model.network
    if not isinstance(network, CnnLstm):
        raise UsageError(
            f"architecture is of the CNN-LSTM, and the victim is {trained.model.name}; give "
            "another --show."
        )
    layers = cnn_lstm_layers(network, model.frames, model.front_end.bins)
    total = sum(layer.parameters for layer in layers)
    cells = [
        (
            layer.name,
            " × ".join(map(str, layer.output)),
            f"{layer.parameters:,}" if layer.parameters else "",
        )
        for layer in layers
    ]
    path = folder / "architecture.png"
    title = f"{trained.model.name}: {total:,} parameters, batch statistics included"
    save_figure(layers_figure(title, cells), path)
    return [f"{trained.model.name}, {len(layers)} layers with {total:,} parameters, in {path}"]


# --- the classes -----------------------------------------------------------------------------


def _draw_classes(
    config: ExplainConfig, corpus: CorpusConfig, front_end: Spectrogram, folder: Path
) -> list[str]:
    """All classes of the corpus, as spoken: which are alike, and which are many."""
    prepared = prepared_speech(dataclasses.replace(corpus, labels=(), augment=False))
    names, rows = prepared.corpus.labels, spread_rows(len(prepared.waveforms), config.limit)
    check_tsne()
    if config.perplexity >= len(rows):
        raise UsageError(
            f"a perplexity of {config.perplexity:g} needs more than {len(rows)} spectrograms; give "
            "a smaller --perplexity or a larger --limit."
        )
    labels = label_indices(prepared.corpus)[rows]
    features = _spectrograms(front_end, prepared.waveforms, rows)
    features -= features.mean(axis=0)
    features /= features.std(axis=0) + 1e-8
    components, shares = principal_components(features, _COMPONENTS)
    planes = {
        f"PCA ({shares[:2].sum():.0%} of the variance)": components[:, :2],
        "t-SNE": tsne(components, config.perplexity, config.seed),
    }
    title = f"{prepared.corpus.title}: {len(rows):,} log-mel spectrograms, all classes"
    save_figure(classes_figure(title, planes, labels, names), folder / "classes.png")
    correlation = class_correlation(features, labels, len(names))
    cells: list[list[Any]] = [["class", "all", "drawn", *names]]
    everything = np.bincount(label_indices(prepared.corpus), minlength=len(names))
    for index, name in enumerate(names):
        drawn = int((labels == index).sum())
        own = [f"{value:.3f}" for value in correlation[index]]
        cells.append([name, int(everything[index]), drawn, *own])
    write_text(folder / "classes.csv", csv_text(cells))
    alike = np.where(np.eye(len(names), dtype=bool) | np.isnan(correlation), -2.0, correlation)
    first, second = np.unravel_index(int(alike.argmax()), alike.shape)
    most = int(everything.argmax())
    return [
        f"PCA and t-SNE of {len(rows):,} spectrograms of all classes in {folder / 'classes.png'}, "
        f"numbers and correlations in {folder / 'classes.csv'}",
        f"most alike: {names[first]} and {names[second]} (correlation of their means "
        f"{correlation[first, second]:.2f}); most frequent: {names[most]} ({everything[most]:,})",
    ]


def _spectrograms(
    front_end: Spectrogram, waveforms: Any, rows: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows cells"]:
    spectrogram = jax.jit(front_end)
    found = []
    for start in range(0, len(rows), _ROWS):
        batch = np.resize(rows[start : start + _ROWS], _ROWS)
        found.append(np.asarray(spectrogram(np.asarray(waveforms[batch]))))
    return np.concatenate(found)[: len(rows)].reshape(len(rows), -1)


def principal_components(
    features: Float[np.ndarray, "points cells"], count: int
) -> tuple[Float[np.ndarray, "points components"], Float[np.ndarray, " components"]]:
    """Places along at most ``count`` principal components, and the share of variance of each.

    Args:
      features: centred.
      count: of components; there are as many as points at most.
    """
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    kept = min(count, len(values))
    shares = values**2 / max(float((values**2).sum()), np.finfo(float).tiny)
    return left[:, :kept] * values[:kept], shares[:kept]


def class_correlation(
    features: Float[np.ndarray, "points cells"], labels: Int[np.ndarray, " points"], count: int
) -> Float[np.ndarray, "classes classes"]:
    """Correlation of the classes' mean spectrograms over cells; NaN where a class has no point."""
    means = np.full((count, features.shape[1]), np.nan)
    for index in range(count):
        if (labels == index).any():
            means[index] = features[labels == index].mean(axis=0)
    means -= means.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    correlation: np.ndarray = (means / norms) @ (means / norms).T
    return correlation
