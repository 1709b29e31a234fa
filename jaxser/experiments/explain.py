"""What victims make of clean and of attacked inputs, in pictures and tables.

print(explain(ExplainConfig(victim=(Path("runs/alexnet_emodb"),), domain="image")))
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jaxser.config.explain import OF_SPEECH, ExplainConfig, Picture
from jaxser.config.parser import check_folder
from jaxser.driver.attributions import (
    Attributions,
    Method,
    attributions,
    has_feature_map,
)
from jaxser.experiments.agreement import (
    GROUPS,
    MEASURES,
    Agreement,
    agreement_csv,
    agreement_table,
    rows_csv,
)
from jaxser.experiments.explain_speech import explain_speech
from jaxser.experiments.explained_victims import Waiting, folders_of, load_victim
from jaxser.experiments.explanations import (
    Looked,
    attack_once,
    baselines,
    example_rows,
    examples_of,
    explained_classes,
    likeliest_others,
    progress_bar,
    spectrogram_of,
)
from jaxser.experiments.last_layer import embeddings, points_table, tsne
from jaxser.experiments.preparation import prepare_run
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.embedding import embedding_figure
from jaxser.reporting.figures.explanations import (
    agreement_figure,
    confusions_figure,
    spectrogram_maps_figure,
    waveform_maps_figure,
)
from jaxser.reporting.sections.victims import described
from jaxser.results.cells import Cells, csv_text, percent
from jaxser.results.intervals import policy
from jaxser.results.metrics import confusion_matrix
from jaxser.results.units import Units
from jaxser.runtime.files import write_text
from jaxser.runtime.terminal import terminal_width
from jaxser.runtime.text import counted

__all__ = ["explain"]

_WORDS: dict[Method, str] = {
    "saliency": "saliency, the gradient by the input",
    "gradcam": "Grad-CAM++",
    "integrated": "integrated gradients",
}
_SHORT = {"saliency": "saliency", "gradcam": "Grad-CAM++", "integrated": "integrated gradients"}
_EXPLAINED = {
    "prediction": "for the class that each is taken for",
    "clean": "for the class that the clean one is taken for",
    "truth": "for the true class",
}

# Attributions that add up to the difference of logits within this share are told without advice.
_COMPLETE = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Of one victim: where its files go, what it is called, what was found, and what to know."""

    looked: Looked
    folder: Path
    name: str
    title: str
    attack: str
    notes: list[str]


def explain(config: ExplainConfig) -> str:
    """Write the pictures and tables; returns what to tell of them.

    Raises:
      UsageError, InputError: see the message.
    """
    check_folder(config.out)
    root, folders = folders_of(config)
    told = [line for each in folders for line in explain_speech(config, *each)]
    if config.show and set(config.show) <= set(OF_SPEECH):
        return "\n".join(told)
    # Each is loaded once, and all are checked before the first is attacked.
    waiting = [load_victim(config, *each) for each in folders]
    agreements: list[Agreement] = []
    matrices: list[tuple[_Part, dict[str, np.ndarray]]] = []
    while waiting:
        # One that has been looked at need not stay in memory.
        loaded = waiting.pop(0)
        pictures, part = loaded.pictures, _look(config, loaded)
        told += _summary(part)
        if "tsne" in pictures:
            told.append(_draw_tsne(config, part))
        lines, found = _attribute(config, part, pictures)
        told += lines
        agreements += found
        if "confusion" in pictures:
            matrices.append((part, _matrices(part)))
    root.mkdir(parents=True, exist_ok=True)
    if matrices:
        told.append(_draw_confusions(root, matrices))
    if agreements:
        told += _draw_agreement(config, root, agreements)
    return "\n".join(told)


def _look(config: ExplainConfig, loaded: Waiting) -> _Part:
    """Attack a victim."""
    run = prepare_run(loaded.asked, loaded=(loaded.victim, loaded.part))
    speech, folder = run.speech, loaded.folder
    part = _Part(
        looked=attack_once(run, config.batch_size),
        folder=folder,
        name=f"{speech.victim.name} {loaded.asked.victim}",
        title=", ".join(
            [
                described(speech.victim.name, speech.victim.training),
                speech.prepared.corpus.title,
                config.split,
            ]
        ),
        attack=f"{run.attack.name}, ε {config.epsilon:g} of the {config.domain}",
        notes=[*run.notes(), *loaded.left_out],
    )
    folder.mkdir(parents=True, exist_ok=True)
    return part


def _summary(part: _Part) -> list[str]:
    looked = part.looked
    labels = looked.speech.labels
    right, after = (float((each == labels).mean()) for each in (looked.before, looked.after))
    return [
        f"{part.title}: {counted(len(labels), 'input')}, accuracy {percent(right)}, "
        f"after {part.attack} {percent(after)}",
        *(f"note: {note}" for note in part.notes),
    ]


def _draw_tsne(config: ExplainConfig, part: _Part) -> str:
    looked = part.looked
    victim, labels = looked.speech.victim, looked.speech.labels
    features = [embeddings(victim, x) for x in (looked.x, looked.x_adv)]
    points = tsne(np.concatenate(features), config.perplexity, config.seed)
    clean, attacked = np.split(points, 2)
    figure = embedding_figure(clean, attacked, labels, victim.labels, part.title, part.attack)
    save_figure(figure, part.folder / "tsne.png")
    kinds = {"clean": (clean, looked.before), "attacked": (attacked, looked.after)}
    _write_csv(part.folder / "tsne.csv", points_table(looked.ids, labels, victim.labels, kinds))
    return f"map in {part.folder / 'tsne.png'}, its points in {part.folder / 'tsne.csv'}"


def _attribute(
    config: ExplainConfig, part: _Part, pictures: Sequence[Picture]
) -> tuple[list[str], list[Agreement]]:
    """Draw what a victim looks at, and measure how much of it stays; what to tell, and the rest."""
    looked, victim = part.looked, part.looked.speech.victim
    rows = example_rows(looked)
    drawn = [method for method in get_args(Method) if method in pictures]
    measured: list[Method] = []
    if "agreement" in pictures:
        # Paths are long: all of them only for those who have asked for both by name.
        measured = ["saliency", *(["gradcam"] if has_feature_map(victim) else [])]  # type: ignore
        measured += ["integrated"] if {"agreement", "integrated"} <= set(config.show) else []
    everything = np.arange(len(looked.x))
    of_all = _both(config, looked, everything, measured)
    # Before the others are drawn, as the programs for batches of this size are still at hand.
    rivals = likeliest_others(looked, explained_classes(looked, config.explained)[0])
    of_next = _attributed(
        config, looked, looked.x, everything, rivals, measured, "clean, another class"
    )
    of_some = _both(config, looked, rows, [method for method in drawn if method not in measured])
    told = []
    for method in drawn:
        source, where = (of_all, rows) if method in measured else (of_some, slice(None))
        maps = (source[0].maps[method][where], source[1].maps[method][where])
        path = part.folder / f"{method}.png"
        save_figure(_maps_figure(config, part, method, rows, maps), path)
        told.append(f"{_WORDS[method]} of {counted(len(rows), 'utterance')} in {path}")
    told += [_completeness(each) for each in (of_all, of_some) if each[0].sums is not None]
    units = _units(looked, config)
    changed = looked.before != looked.after
    agreements = [
        Agreement.of(
            part.name,
            method,
            of_all[0].maps[method],
            of_all[1].maps[method],
            of_next.maps[method],
            changed,
            units,
        )
        for method in measured
    ]
    if agreements:
        _write_csv(part.folder / "agreement_rows.csv", rows_csv(agreements, looked.ids))
    return told, agreements


def _both(
    config: ExplainConfig, looked: Looked, rows: np.ndarray, methods: Sequence[Method]
) -> tuple[Attributions, Attributions]:
    """Attributions of some of the inputs, clean and attacked."""
    clean, attacked = explained_classes(looked, config.explained)
    before = _attributed(config, looked, looked.x, rows, clean, methods, "clean")
    after = _attributed(config, looked, looked.x_adv, rows, attacked, methods, "attacked")
    return before, after


def _attributed(
    config: ExplainConfig,
    looked: Looked,
    x: np.ndarray,
    rows: np.ndarray,
    classes: np.ndarray,
    methods: Sequence[Method],
    what: str,
) -> Attributions:
    if not methods:
        return Attributions({})
    with progress_bar(f"{', '.join(methods)}, {what}", len(rows)) as bar:
        return attributions(
            looked.speech.victim,
            x[rows],
            classes[rows],
            methods,
            baseline=baselines(looked, config.baseline, rows, config.seed)
            if "integrated" in methods
            else None,
            steps=config.steps,
            compat=config.compat,
            batch_size=config.batch_size,
            watch=lambda done: bar.update(done - bar.n),
        )


def _maps_figure(
    config: ExplainConfig,
    part: _Part,
    method: Method,
    rows: np.ndarray,
    maps: tuple[np.ndarray, np.ndarray],
) -> Any:
    looked = part.looked
    of_waveforms = config.domain == "waveform" and method != "gradcam"
    examples = examples_of(looked, rows, maps, pictures=not of_waveforms)
    title = f"{part.title}: {_WORDS[method]}, {_EXPLAINED[config.explained]}\n{part.attack}"
    rate, signed = looked.speech.victim.sample_rate, method == "integrated"
    if of_waveforms:
        return waveform_maps_figure(title, examples, rate, signed)
    seconds = looked.speech.prepared.waveforms.shape[1] / rate
    return spectrogram_maps_figure(title, examples, spectrogram_of(looked), seconds, signed)


def _completeness(both: tuple[Attributions, Attributions]) -> str:
    """How far integrated gradients are from adding up to the difference of the logits."""
    sums, differences = (
        np.concatenate([getattr(each, name) for each in both]) for name in ("sums", "differences")
    )
    # A silent input is its own baseline, and logits that are not finite have no difference.
    defined = np.isfinite(sums) & np.isfinite(differences) & (differences != 0)
    if not defined.any():
        return (
            f"integrated gradients have no difference of logits to add up to in any of "
            f"{counted(len(defined), 'input')}; give another --baseline"
        )
    lacking = np.abs(sums - differences)[defined] / np.abs(differences)[defined]
    median, worst = float(np.median(lacking)), float(lacking.max())
    without = len(defined) - len(lacking)
    undefined = f"; undefined for {without}" if without else ""
    advice = "" if median <= _COMPLETE else "; give more --steps, or another --baseline"
    return (
        f"integrated gradients add up to the difference of the logits within {percent(median)} of "
        f"it (median of {len(lacking)}; at worst {percent(worst)}{undefined}){advice}"
    )


def _units(looked: Looked, config: ExplainConfig) -> Units:
    utterances = looked.speech.utterances
    return Units.of(
        looked.ids,
        [each.speaker for each in utterances],
        config.interval_over,
        sources=[each.whole for each in utterances],
    )


def _matrices(part: _Part) -> dict[str, np.ndarray]:
    """Confusion by what was done; rows without a prediction are in none."""
    labels, count = part.looked.speech.labels, len(part.looked.speech.victim.labels)
    found = {}
    for words, said in (("clean", part.looked.before), (part.attack, part.looked.after)):
        known = said >= 0
        found[words] = confusion_matrix(labels[known], said[known], count)
    return found


def _draw_confusions(root: Path, parts: Sequence[tuple[_Part, dict[str, np.ndarray]]]) -> str:
    victims = [part.looked.speech.victim for part, _ in parts]
    lines = [
        {
            "\n".join([part.name, victim.training.defence or "undefended", words]): matrix
            for words, matrix in matrices.items()
        }
        for (part, matrices), victim in zip(parts, victims, strict=True)
    ]
    figure = confusions_figure("Confusion", lines, [victim.labels for victim in victims])
    save_figure(figure, root / "confusion.png")
    cells = [["victim", "inputs", "true", "predicted", "rows"]]
    for (part, matrices), victim in zip(parts, victims, strict=True):
        labels = victim.labels
        for words, matrix in matrices.items():
            for (true, predicted), count in np.ndenumerate(matrix):
                cells.append([part.name, words, labels[true], labels[predicted], str(int(count))])
    _write_csv(root / "confusion.csv", cells)
    return f"confusion in {root / 'confusion.png'} and {root / 'confusion.csv'}"


def _draw_agreement(
    config: ExplainConfig, root: Path, agreements: Sequence[Agreement]
) -> list[str]:
    figures: dict[str, dict[str, Any]] = {}
    for each in agreements:
        figures.setdefault(_SHORT[each.method], {})[each.victim] = {
            group: {name: estimate for name, (estimate, _) in found.items()}
            for group, found in each.figures.items()
        }
    attack = Path(config.attack).stem
    title = f"Maps before and after {attack}, ε {config.epsilon:g} of the {config.domain}"
    save_figure(agreement_figure(title, MEASURES, figures, GROUPS[1:]), root / "agreement.png")
    _write_csv(root / "agreement.csv", agreement_csv(agreements))
    return [
        agreement_table(agreements, terminal_width()),
        policy(config.interval_over),
        "undefined: one of the maps is the same all over; another class: clean maps for the "
        "class and for the likeliest other; another utterance: clean maps of two",
        f"agreement in {root / 'agreement.png'} and {root / 'agreement.csv'}",
    ]


def _write_csv(path: Path, cells: Cells) -> None:
    write_text(path, csv_text(cells))
