"""Certificates of a victim's held-out speech: which are missing, and what all of them say.

    run = prepare(CertifyConfig(victim=Path("runs/emo18_emodb"), sigma=0.01, samples=1000))
    spent = certify_missing(run)
    print(told(run, spent))

Certificates that are there already stay, so a run that was stopped goes on when it is asked for
again, utterance by utterance.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from jaxser.config import to_mapping
from jaxser.config.certify import CertifyConfig
from jaxser.driver.ahead_of_time import compile_seconds
from jaxser.driver.noise_counts import Votes, noise_votes
from jaxser.driver.speech import Speech
from jaxser.experiments.pretrained import home_of
from jaxser.experiments.speech import load_speech, victim_of
from jaxser.reporting.certificates import certificate_figure, certificate_text, curve_cells
from jaxser.reporting.empirical import check_rows, empirical_lines
from jaxser.reporting.figures.canvas import save_figure
from jaxser.results.cells import csv_text
from jaxser.results.certificates import (
    CERTIFICATES,
    KIND,
    certified_columns,
    has_certificates,
    only,
    power_snr,
    read_certificates,
)
from jaxser.results.schema import parameters_hash
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import remove_strays, write_text
from jaxser.runtime.locks import held
from jaxser.runtime.provenance import device_name, environment
from jaxser.runtime.signals import requested
from jaxser.runtime.stages import stage
from jaxser.runtime.text import counted

__all__ = ["Certification", "Spent", "certify_missing", "prepare", "told"]

# A terminal sees that the run is alive; a file gets a line now and then.
_SECONDS_BETWEEN_BARS = 1.0
_SECONDS_BETWEEN_LINES = 30.0


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a run has cost.

    Attributes:
      passes: of the victim.
      seconds: without compilation.
      compile_seconds: tracing and compilation.
    """

    passes: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Certification:
    """Everything that a run needs, checked and loaded.

    Attributes:
      config: as it was asked for.
      speech: the victim and the utterances.
      facts: columns that are the same in all certificates, and tell them from others.
      notes: remarks on the victim and the corpus.
      attacked: rows of L2 attacks on the same victim, or None.
      out: folder of the certificates.
    """

    config: CertifyConfig
    speech: Speech
    facts: Mapping[str, Any]
    notes: list[str]
    attacked: pa.Table | None
    out: Path

    def stored(self) -> pa.Table:
        """The certificates in the folder of the utterances asked for, each once, in their order."""
        if not has_certificates(self.out):
            return CERTIFICATES.empty_table()
        # A run folder may be spelled in several ways; its variables are what counts.
        known = {name: value for name, value in self.facts.items() if name != "victim"}
        table = only(read_certificates(self.out), known)
        found = {name: i for i, name in enumerate(table["utterance"].to_pylist())}
        wanted = [found[u.id] for u in self.speech.utterances if u.id in found]
        return table.take(pa.array(wanted, pa.int64()))

    def missing(self) -> np.ndarray:
        """Places of the utterances that have none."""
        done = set(self.stored()["utterance"].to_pylist())
        return np.array(
            [i for i, u in enumerate(self.speech.utterances) if u.id not in done], np.int64
        )

    def source(self) -> dict[str, Any]:
        """What makes the certificates, ready for JSON."""
        return {
            "config": to_mapping(self.config),
            "facts": dict(self.facts),
            "corpus": {
                "fingerprint": self.speech.prepared.fingerprint,
                "split": list(self.speech.scheme),
            },
            "environment": environment(),
        }


def prepare(config: CertifyConfig) -> Certification:
    """Check what ``config`` asks for, and load the victim and the speech.

    Raises:
      UsageError, InputError: see the message.
    """
    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file; give another --out.")
    asked = config.of_speech()
    speech = load_speech(asked, victim=victim_of(asked))
    facts = {
        "victim": f"{speech.victim.name} {config.victim}",
        "victim_fingerprint": speech.fingerprint,
        "corpus": speech.prepared.corpus.title,
        "split": config.split,
        "domain": config.domain,
        "sigma": config.sigma,
        "samples0": config.samples0,
        "samples": config.samples,
        "alpha": config.alpha,
        "seed": config.seed,
    }
    # Before hours of passes. The corpus' own fingerprint is of a folder, not of what is in it.
    attacked = None if config.rows is None else check_rows(config.rows, facts)
    identity = {
        **{name: value for name, value in facts.items() if name != "victim"},
        "corpus": speech.prepared.fingerprint,
        "scheme": list(speech.scheme),
    }
    out = config.out or home_of(config.victim) / "certificates" / parameters_hash(identity)
    _check_out(out, facts)
    return Certification(config, speech, facts, speech.notes, attacked, out)


def _check_out(out: Path, facts: Mapping[str, Any]) -> None:
    """Refuse the folder of another run's certificates."""
    if not has_certificates(out):
        return
    first = read_certificates(out).slice(0, 1).to_pylist()[0]
    for name, value in facts.items():
        if name != "victim" and first[name] != value:
            raise UsageError(
                f"{out} holds certificates with {name} {first[name]}, not {value}; give another "
                "--out."
            )


def certify_missing(run: Certification, *, shown: bool = True) -> Spent:
    """Make the certificates that are not there yet.

    Args:
      run: of :func:`prepare`.
      shown: whether there is a progress bar.

    Raises:
      InputError: another process makes certificates there.
      Stopped: after Ctrl-C or another signal; utterances that are finished are kept.
    """
    # Of a finished run the folder may be one that cannot be written.
    if not len(run.missing()):
        return Spent()
    with held(run.out, "certified"):
        remove_strays(run.out)
        stage("certifying", shown=False)
        return _certify(run, run.missing(), shown)


def _certify(run: Certification, missing: np.ndarray, shown: bool) -> Spent:
    config, speech = run.config, run.speech
    each = config.samples0 + config.samples
    spent = Spent()
    terminal = sys.stderr.isatty()
    with (
        RowWriter(run.out, run.source(), schema=CERTIFICATES, kind=KIND) as writer,
        tqdm(
            total=len(missing) * each,
            desc=f"certify {speech.victim.name}",
            unit=" passes",
            mininterval=_SECONDS_BETWEEN_BARS if terminal else _SECONDS_BETWEEN_LINES,
            dynamic_ncols=True,
            disable=not shown,
        ) as bar,
        requested() as stop,
    ):

        def watch(passes: int) -> bool:
            bar.update(passes - bar.n)
            return not stop.is_set()

        start, compiled = time.perf_counter(), compile_seconds()
        for votes in noise_votes(
            speech.victim,
            speech.inputs,
            sigma=config.sigma,
            selection=config.samples0,
            samples=config.samples,
            seed=config.seed,
            ids=[speech.utterances[i].id for i in missing],
            subset=speech.places[missing],
            batch_size=config.batch_size,
            watch=watch,
        ):
            compilation = compile_seconds() - compiled
            seconds = time.perf_counter() - start - compilation
            before, spent = spent, Spent(spent.passes + each, seconds, compilation)
            place = missing[votes.row]
            writer.add(_columns(run, int(place), votes, spent.seconds - before.seconds))
    # Only now are the certificates written.
    stop.raise_if_set()
    return spent


def _columns(run: Certification, place: int, votes: Votes, seconds: float) -> dict[str, Any]:
    """One utterance as columns of the schema."""
    config, speech = run.config, run.speech
    utterance, corpus = speech.utterances[place], speech.prepared.corpus
    names, clean = speech.victim.labels, int(speech.clean.prediction[place])
    x = np.asarray(speech.inputs[speech.places[place]], np.float64)
    found = certified_columns(
        votes.selection[None], votes.counts[None], names, config.sigma, config.alpha
    )
    norm = np.array([np.sqrt(np.square(x).sum())])
    heard = config.domain == "waveform"
    return {
        **{name: [value] for name, value in run.facts.items()},
        **found,
        "defence": [speech.victim.training.defence],
        "language": [corpus.language],
        "synthetic": [corpus.synthetic],
        "notes": [run.notes],
        "utterance": [utterance.id],
        "source": [utterance.whole],
        "speaker": [utterance.speaker],
        "gender": [utterance.gender],
        "label": [names[speech.labels[place]]],
        "clean_prediction": [names[clean] if clean >= 0 else None],
        "radius_snr": power_snr(found["radius"], norm) if heard else np.full(1, np.nan),
        "input_norm": norm,
        "passes": [config.samples0 + config.samples],
        "device": [device_name()],
        "seconds": [seconds],
    }


def told(run: Certification, spent: Spent) -> str:
    """Write the curve and its points; returns what to print."""
    table, over = run.stored(), run.config.interval_over
    lines = [] if run.attacked is None else empirical_lines(run.attacked, table, over)
    save_figure(certificate_figure(table, lines, over), run.out / "certified.png")
    write_text(run.out / "certified.csv", csv_text(curve_cells(table, lines, over)))
    speed = f"all {len(table)} certificates were there already"
    if spent.passes:
        speed = (
            f"{spent.passes:,} passes in {spent.seconds:.1f} s, "
            f"{spent.passes / spent.seconds:,.1f} passes/s steady state, after "
            f"{spent.compile_seconds:.1f} s of compilation"
        )
    return "\n".join(
        [
            certificate_text(table, over),
            *(
                f"{line.label}: rows of {line.utterances} of {counted(len(table), 'utterance')}"
                for line in lines
            ),
            speed,
            f"certificates in {run.out}, curve in {run.out / 'certified.png'}, its points in "
            f"{run.out / 'certified.csv'}",
        ]
    )
