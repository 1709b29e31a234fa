"""Attack threat models, and score what was made on other victims: ``python -m jaxser.transfer``.

    python -m jaxser.transfer configs/tables/staa_net_table4.yaml \\
        --threat runs/emo18_emodb --generator runs/staa_net_emodb \\
        --victim runs/emo18_emodb runs/zhao19_emodb --split val test --out transfer
    python -m jaxser.transfer configs/tables/staa_net_table6.yaml --threat runs/emo18_emodb \\
        --victim runs/zhao19_emodb --generator "STAA-Net=runs/staa_net_emodb" \\
        "without sparsity loss=runs/staa_net_emodb_dense" ...

A table file lists attacks. Each is run on every threat model as python -m jaxser.attack runs it
(its rows and WAV files are kept there, and not made again), and the adversarial speech is given to
every victim. The table has STAA-Net's columns: peak SNR, share of changed samples and seconds per
utterance on the threat model, and on each victim the attack success rate: the share of all
utterances whose prediction changes; beside them STOI, how well the speech is still understood. With
--out: the same as Markdown, HTML and CSV, with intervals.
"""

import argparse
import csv
import dataclasses
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.config import AttackCommandConfig, AttackedCorpusConfig, as_params
from jaxser.papers.table import settings
from jaxser.papers.transfer import (
    Line,
    TransferTable,
    line_cells,
    load_transfer_table,
    published_cells,
)
from jaxser.runtime.errors import InputError, UsageError, nearest_name, report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.driver.speech import Speech
    from jaxser.experiments.attack import Run
    from jaxser.victims.victim import Victim

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, score, print; returns the exit status."""
    args = _arguments(argv)
    table = load_transfer_table(args.table)
    generators = _generators(table, args.generator, len(args.threat))
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit} leaves nothing to attack; give 1 or more.")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"{args.out} is a file; give --out a folder.")

    from jaxser.runtime.compilation import enable_compilation_cache
    from jaxser.victims.victim import load_victim, read_run

    enable_compilation_cache()
    victims = {}
    for folder in args.victim:
        read_run(folder)
        victims[str(folder)] = load_victim(folder)
    lines: list[Line] = []
    for index, threat in enumerate(args.threat):
        own = {title: runs[index] for title, runs in generators.items()}
        for part in args.split:
            lines += _lines(table, threat, own, part, victims, args)
    print(
        "\n".join(
            [
                f"{table.title}; here on {_corpora(lines)}",
                *_notes(lines),
                *_aligned(line_cells(lines)),
            ]
        )
    )
    if table.published:
        published = _aligned(published_cells(table))
        print("\n".join(["", f"as published, on {table.corpus}:", *published]))
    if args.out is not None:
        _write(args.out, table, lines)
        print(f"table in {args.out / 'transfer.md'}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.transfer",
        description="Attack threat models with all attacks of a table file, and score the "
        "adversarial speech on other victims.",
    )
    parser.add_argument("table", type=Path, metavar="TABLE.yaml")
    parser.add_argument("--threat", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument(
        "--generator",
        nargs="+",
        default=[],
        metavar="[LINE=]RUN",
        help="of staanet, one for each threat; LINE= where several lines of the table need one",
    )
    parser.add_argument("--victim", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument(
        "--split", nargs="+", choices=["train", "val", "test"], default=["val", "test"]
    )
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    parser.add_argument("--limit", type=int, help="utterances of each part, spread over it")
    parser.add_argument("--seed", type=int, default=0, help="of random starts")
    parser.add_argument("--out", type=Path, help="folder for transfer.{md,html,csv}")
    return parser.parse_args(argv)


def _generators(table: TransferTable, given: Sequence[str], threats: int) -> dict[str, list[Path]]:
    """The run of every line that needs one, for each threat model in turn."""
    titles = [
        entry.title
        for entry in table.attacks
        if entry.attack == "staanet" and "generator" not in entry.parameters
    ]
    found: dict[str, list[Path]] = {title: [] for title in titles}
    for text in given:
        line, equals, run = text.partition("=")
        if not equals or Path(text).exists():
            if len(titles) > 1:
                raise UsageError(
                    f"--generator {text} does not say for which line of the table; give it as "
                    f"'LINE=RUN' with one of: {', '.join(titles)}."
                )
            line, run = titles[0] if titles else "", text
        if line not in found:
            raise UsageError(
                f"--generator {text} is for no line of the table; {nearest_name(line, found)}"
            )
        found[line].append(Path(run))
    for title, runs in found.items():
        if not runs:
            raise UsageError(f"{title} needs a trained generator; give --generator RUN.")
        if len(runs) != threats:
            raise UsageError(
                f"{title} has {len(runs)} generators for {threats} threat models; give one run "
                "for each --threat, in the same order."
            )
    return found


def _lines(
    table: TransferTable,
    threat: Path,
    generators: dict[str, Path],
    part: str,
    victims: "dict[str, Victim]",
    args: argparse.Namespace,
) -> Iterator[Line]:
    """All attacks on one threat model and part."""
    from jaxser.experiments.attack import attack_missing_rows, load_speech, prepare_run

    common = AttackCommandConfig(
        victim=threat,
        y="prediction",
        split=part,  # type: ignore[arg-type]
        seed=args.seed,
        save_wav=True,
        stoi=True,
        corpus=AttackedCorpusConfig(root=args.root),
    )
    speech = load_speech(common)
    clean = _clean_predictions(speech.spread(args.limit), victims)
    for entry in table.attacks:
        (setting,) = settings(entry)
        values = {**entry.parameters, **setting}
        if entry.title in generators:
            values["generator"] = generators[entry.title]
        config = dataclasses.replace(
            common,
            attack=entry.attack,
            epsilon=tuple(entry.epsilon),
            params=as_params(values),
            limit=args.limit,
        )
        run = prepare_run(config, speech)
        attack_missing_rows(run)
        yield _line(entry.title, run, clean, victims)


def _clean_predictions(speech: "Speech", victims: "dict[str, Victim]") -> "dict[str, np.ndarray]":
    """Of every victim, before the attack; victims must hear what the threat model hears."""
    from jaxser.driver.run import predict

    threat, found = speech.victim, {}
    for name, victim in victims.items():
        if not victim.hears_like(threat):
            raise InputError(
                f"the victim {name} has other labels, another sample rate or another length than "
                f"the threat model {threat.name}; train both on the same speech."
            )
        found[name] = predict(victim, speech.inputs, subset=speech.places)
    return found


def _line(
    title: str, run: "Run", clean: "dict[str, np.ndarray]", victims: "dict[str, Victim]"
) -> Line:
    import numpy as np

    from jaxser.driver.run import predict
    from jaxser.results.intervals import clustered_means

    rows = run.rows()
    success = np.asarray(rows["success"].to_pylist(), bool)
    x_adv = np.stack([_read(run, utterance) for utterance in run.utterances])
    speakers = [utterance.speaker for utterance in run.utterances]
    asr = {}
    for name, victim in victims.items():
        fooled = predict(victim, x_adv) != clean[name]
        low, high = np.percentile(clustered_means(fooled, speakers), [2.5, 97.5])
        asr[name] = (float(fooled.mean()), float(low), float(high))

    def mean(column: str) -> float:
        values = rows[column].to_numpy()[success]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    return Line(
        threat=str(run.config.victim),
        attack=title,
        part=run.config.split,
        utterances=len(success),
        snr=mean("snr_peak"),
        sparsity=mean("sparsity"),
        stoi=mean("stoi"),
        seconds=float(rows["seconds"].to_numpy().mean()),
        asr=asr,
        corpus=run.corpus.title,
        notes=tuple(run.facts["notes"]),
    )


def _read(run: "Run", utterance: Any) -> "np.ndarray":
    from jaxser.speech.audio import read_audio

    samples, _ = read_audio(run.wav_path(utterance, run.epsilons[0]))
    return samples[:, 0]


def _corpora(lines: Sequence[Line]) -> str:
    return ", ".join(dict.fromkeys(line.corpus for line in lines))


def _notes(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(f"note: {note}" for line in lines for note in line.notes))


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _write(out: Path, table: TransferTable, lines: Sequence[Line]) -> None:
    from jaxser.reporting import html as html_page
    from jaxser.runtime.files import write_text

    cells = line_cells(lines)
    rows = ["| " + " | ".join(row) + " |" for row in cells]
    rows.insert(1, "|" + "---|" * len(cells[0]))
    text = [f"# {table.title}", "", f"Here on {_corpora(lines)}.", ""]
    text += [f"{note}\n" for note in _notes(lines)]
    text += [*rows, ""]
    if table.published:
        text += [f"As published, on {table.corpus}:", "", "```"]
        text += [*_aligned(published_cells(table)), "```", ""]
    write_text(out / "transfer.md", "\n".join(text))
    body = [html_page.paragraph(note, note=True) for note in _notes(lines)]
    body.append(html_page.table(cells, f"Here on {_corpora(lines)}"))
    if table.published:
        body.append(html_page.table(published_cells(table), f"As published, on {table.corpus}"))
    write_text(out / "transfer.html", html_page.page(table.title, body))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["threat", "attack", "part", "utterances", "snr_peak", "sparsity", "stoi", "seconds"]
    writer.writerow([*names, "victim", "asr", "asr_low", "asr_high"])
    for line in lines:
        common = [line.threat, line.attack, line.part, line.utterances]
        for name, rates in line.asr.items():
            measured = [line.snr, line.sparsity, line.stoi, line.seconds]
            writer.writerow([*common, *measured, name, *rates])
    write_text(out / "transfer.csv", file.getvalue())


if __name__ == "__main__":
    sys.exit(report_errors(main))
