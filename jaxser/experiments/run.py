"""One run of an attack: what it is made of, which of its rows are there, and where its files lie.

run = prepare_run(config)
run.missing()                               # [utterances, epsilons]
run.rows()                                  # pyarrow, one row per utterance and ε
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.attacks import Attack
from jaxser.attacks.base import BATCH_DEPENDENT, PROBABILITIES, RANDOMISED
from jaxser.config import AttackCommandConfig, to_mapping
from jaxser.corpora import Corpus, Utterance
from jaxser.corpora.table import file_of_id
from jaxser.driver.sequence import AttackSequence
from jaxser.driver.speech import Speech
from jaxser.results.reading import read_row_file, read_rows, row_paths
from jaxser.results.schema import SCHEMA
from jaxser.runtime.provenance import environment
from jaxser.runtime.text import counted
from jaxser.victims.victim import Victim

__all__ = ["Listener", "Run"]

_BUDGET = ("epsilon", "epsilon_unit")
_RowKey = tuple[str, float, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Listener:
    """Another victim, that is given what an attack made.

    Attributes:
      name: as rows have it.
      fingerprint: of its variables.
      victim: of the threat model's labels, sample rate and length.
      clean: its predictions before the attack.
    """

    name: str
    fingerprint: str
    victim: Victim
    clean: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run of the command needs, checked and loaded.

    Attributes:
      config: as it was asked for.
      speech: the victim and the utterances to attack.
      attack: with its hyper-parameters.
      epsilons: budgets, each of every utterance.
      members: names of a composite attack's members; empty for others.
      attacked: class indices to leave or to reach, ``[utterances]``.
      facts: columns that are the same in all rows.
      out: folder of the rows.
      examples: places of the utterances whose attacked inputs are kept.
      shown: of the utterances, as files to look at and to listen to.
      listeners: other victims that every row is repeated for.
    """

    config: AttackCommandConfig
    speech: Speech
    attack: Attack | AttackSequence
    epsilons: tuple[float, ...]
    members: tuple[str, ...]
    attacked: np.ndarray
    facts: Mapping[str, Any]
    out: Path
    examples: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    listeners: tuple[Listener, ...] = ()
    # Places of the pairs that each file has a row of: files never change, so each is read once.
    _read: dict[Path, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def corpus(self) -> Corpus:
        return self.speech.prepared.corpus

    @property
    def utterances(self) -> list[Utterance]:
        return self.speech.utterances

    def source(self) -> dict[str, Any]:
        """What makes the rows: config, attack, victim, corpus and versions, ready for JSON."""
        return {
            "config": to_mapping(self.config),
            "attack": {"name": self.attack.name, "parameters": self.facts["parameters"]},
            "victim": {"name": self.facts["victim"], "fingerprint": self.speech.fingerprint},
            "corpus": {
                "name": self.corpus.name,
                "title": self.corpus.title,
                "fingerprint": self.speech.prepared.fingerprint,
                "split": list(self.speech.scheme),
                "cut": self.speech.prepared.cut,
            },
            "environment": environment(),
        }

    def headline(self) -> str:
        utterances = self.utterances
        speakers = len({utterance.speaker for utterance in utterances})
        goal = f"towards {self.config.target}" if self.config.target else f"from {self.config.y}"
        domain = self.config.domain
        of = "" if domain == "waveform" else f"the {domain} of "
        training = self.speech.victim.training
        defence = f", {training.defence}" if training.defence else ""
        lines = [
            f"{self.attack.name} ({goal}) on {of}{self.speech.victim.name} of "
            f"{self.config.victim}{defence}; {self.corpus.title}, {self.config.split}: "
            f"{counted(len(utterances), 'utterance')}, {counted(speakers, 'speaker')}",
            "hyper-parameters: "
            + ", ".join(f"{k} {v}" for k, v in json.loads(self.facts["parameters"]).items()),
        ]
        lines += [f"its training took {cost}" for cost in [training.cost()] if cost]
        lines += [f"note: {note}" for note in self.notes()]
        return "\n".join(lines)

    def notes(self) -> list[str]:
        """What its figures must not be read without: of the speech, the attack and the victim."""
        return [*self.facts["notes"], *self.oddities()]

    def oddities(self) -> list[str]:
        """What the clean pass found that makes attacks mean something else."""
        notes = self.speech.oddities()
        flags = self.speech.clean.flags
        if (flags & RANDOMISED).any():
            notes.append(
                "the victim is randomised (two passes over the same speech differ): its gradients "
                "are noisy, the same row may come out differently under another seed, and a row "
                "counts as robust where it withstands under each of several draws of the noise"
            )
        if (flags & BATCH_DEPENDENT).any():
            notes.append(
                "the victim's logits of an utterance depend on the others in its batch (batch "
                "statistics, as a rule): rows are not results of their own; load the victim in "
                "evaluation mode"
            )
        alike = int((flags & PROBABILITIES != 0).sum())
        if alike:
            notes.append(
                f"the victim's outputs look like probabilities for {alike} of {len(flags)} "
                "utterances: attacks need logits, and their gradients are weak without"
            )
        return notes

    def key(self, utterance: str, epsilon: float) -> _RowKey:
        return utterance, epsilon, self.config.epsilon_unit

    def stored(self) -> pa.Table:
        """The victim's own rows in the folder; an empty table where there is none."""
        if not any(self.out.glob("rows-*.parquet")):
            return SCHEMA.empty_table()
        rows = read_rows(self.out)
        return rows.filter(pc.equal(rows["victim_fingerprint"], self.speech.fingerprint))

    def kept_inputs(self) -> bool:
        """Whether what was made is needed beside the rows."""
        config = self.config
        wanted = config.save_wav or config.stoi or self.shown or self.listeners
        drawn = config.domain in ("spectrogram", "image")
        return bool(wanted) or drawn or bool(self.examples)

    def rows(self) -> pa.Table:
        """The rows asked for: one per utterance and ε."""
        table = self.stored()
        wanted = {self.key(u.id, epsilon) for u in self.utterances for epsilon in self.epsilons}
        first: dict[_RowKey, int] = {}
        for index, key in enumerate(_keys(table)):
            if key in wanted:
                first.setdefault(key, index)
        return table.take(pa.array(sorted(first.values()), pa.int64()))

    def done(self) -> np.ndarray:
        """Which pairs have a row: ``[utterances, epsilons]``; found file by file."""
        found = np.zeros((len(self.utterances), len(self.epsilons)), bool)
        paths = row_paths(self.out)
        self._read_places([path for path in paths if path not in self._read])
        for path in paths:
            found.flat[self._read[path]] = True
        return found

    def _read_places(self, paths: Sequence[Path]) -> None:
        """Find the flat indices of the pairs that have a row, of each file."""
        ids = pa.array([u.id for u in self.utterances if paths], pa.string())
        epsilons = pa.array(self.epsilons, pa.float64())
        for path in paths:
            rows = read_row_file(path, ["victim_fingerprint", "utterance", *_BUDGET])
            own = pc.and_(
                pc.equal(rows["victim_fingerprint"], self.speech.fingerprint),
                pc.equal(rows["epsilon_unit"], self.config.epsilon_unit),
            )
            rows = rows.filter(own)
            places = pc.index_in(rows["utterance"], ids), pc.index_in(rows["epsilon"], epsilons)
            i, e = (np.asarray(pc.fill_null(each, -1), np.int64) for each in places)
            asked = (i >= 0) & (e >= 0)
            self._read[path] = i[asked] * len(self.epsilons) + e[asked]

    def missing(self, done: np.ndarray | None = None) -> np.ndarray:
        """Which pairs lack a row or a file: ``[utterances, epsilons]``.

        Args:
          done: from :meth:`done`, where it is known already.
        """
        lacking = ~(self.done() if done is None else done)
        files = self.config.save_wav or self.examples or self.shown
        for i, utterance in enumerate(self.utterances if files else ()):
            paths = [self.wav_path] if self.config.save_wav else []
            paths += [self.example_path] if i in self.examples else []
            paths += [self.picture_path] if i in self.shown else []
            if self.config.save_wav:
                lacking[i] |= not self.original_path(utterance).exists()
            for e, epsilon in enumerate(self.epsilons):
                lacking[i, e] |= not all(path(utterance, epsilon).exists() for path in paths)
        return lacking

    def wav_path(self, utterance: Utterance, epsilon: float) -> Path:
        return self._path(self._wav, utterance, self._named(epsilon), ".wav")

    def original_path(self, utterance: Utterance) -> Path:
        """What the attack began with, to hear beside :meth:`wav_path`."""
        return self._path(self._wav, utterance, "original", ".wav")

    @property
    def _wav(self) -> str:
        # Speech that was made from attacked features is not what the victim was given.
        return "wav" if self.config.domain == "waveform" else "wav-inverted"

    def example_path(self, utterance: Utterance, epsilon: float) -> Path:
        return self._path("example", utterance, self._named(epsilon), ".npy")

    def picture_path(self, utterance: Utterance, epsilon: float) -> Path:
        """Of a shown utterance; its WAV files lie beside it."""
        return self._path("shown", utterance, self._named(epsilon), "") / "picture.png"

    def _named(self, epsilon: float) -> str:
        unit, short = self.config.epsilon_unit, f"{epsilon:g}"
        # Two budgets that are written alike in few digits are two folders.
        exact = short if float(short) == epsilon else str(epsilon)
        return f"{'epsilon' if unit == 'amplitude' else unit}-{exact}"

    def _path(self, kind: str, utterance: Utterance, beside: str, suffix: str) -> Path:
        name = utterance.id.removeprefix("wav/") if self._all_in_wav else utterance.id
        file = file_of_id(name)
        return (self.out / kind / beside).resolve() / file.with_name(f"{file.name}{suffix}")

    @functools.cached_property
    def _all_in_wav(self) -> bool:
        """Whether the corpus has all its files in a folder that need not be named again here."""
        return all(utterance.id.startswith("wav/") for utterance in self.corpus.utterances)


def _keys(rows: pa.Table) -> list[_RowKey]:
    columns = (rows[name].to_pylist() for name in ("utterance", *_BUDGET))
    return list(zip(*columns, strict=True))
