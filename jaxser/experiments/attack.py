"""One attack on a victim's held-out speech: what it needs, and the rows that it leaves.

    run = prepare_run(AttackCommandConfig(victim=Path("runs/emo18_emodb"), attack="pgd"))
    attack_missing_rows(run)
    run.rows()                                  # pyarrow, one row per utterance and ε

    speech = load_speech(config)                # several attacks on the same speech
    runs = [prepare_run(each, speech) for each in configs]

Rows that are there already stay, so a run that was stopped goes on when it is asked for again.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxser.attacks import Attack, StaaNet, parameters
from jaxser.attacks.base import FLAG_NAMES, PROBABILITIES, RANDOMISED
from jaxser.attacks.generator import ALL_TARGETS, Generator
from jaxser.attacks.losses import is_successful
from jaxser.config import AttackCommandConfig, CorpusConfig, to_mapping
from jaxser.corpora import Corpus, Utterance
from jaxser.corpora.selection import select, split_rows
from jaxser.driver.named_attack import attack_and_bounds
from jaxser.driver.progress import AttackBar, Interruption
from jaxser.driver.run import (
    AttackSequence,
    CleanPass,
    Progress,
    RowBlock,
    Throughput,
    attack_rows,
    check_budgets,
    clean_pass,
    members,
    predict,
)
from jaxser.driver.speech import Speech, spread_rows
from jaxser.models.front_end import RowBatches
from jaxser.reporting.example import write_example
from jaxser.results.intelligibility import short_time_intelligibility
from jaxser.results.reading import read_rows, row_files
from jaxser.results.schema import SCHEMA, parameters_hash
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.files import atomic_file
from jaxser.runtime.provenance import device_name, environment, fingerprint_of
from jaxser.runtime.sharding import WHOLE, Share
from jaxser.speech.audio import write_wav
from jaxser.victims.victim import Victim, load_victim, read_run

__all__ = [
    "Listener",
    "Run",
    "attack_missing_rows",
    "load_speech",
    "prepare_run",
]

_DEFAULT_EPSILONS = (0.005, 0.01)
_NO_LIMIT = (float("inf"),)

# Rows that another victim hears at once: always as many, so that it is compiled once.
_HEARD_ROWS = 32


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


def load_speech(
    config: AttackCommandConfig, share: Share = WHOLE, victim: Victim | None = None
) -> Speech:
    """The victim of ``config`` and the utterances to attack it on.

    Args:
      config: what to attack.
      share: of the utterances, after ``config.limit``; there may be none in it.
      victim: of ``config``, where it is loaded already.

    Raises:
      UsageError, InputError: see the message.
    """
    return _load_speech(config, victim or _load_victim(config), share)


def prepare_run(
    config: AttackCommandConfig,
    speech: Speech | None = None,
    folder: Path | None = None,
    listeners: Sequence[Listener] = (),
) -> "Run":
    """Check what ``config`` asks for, and load the victim and the speech.

    Args:
      config: what to attack, and how.
      speech: of :func:`load_speech` with the same victim, part, target and domain, and with the
        same limit or none; not loaded again.
      folder: that gets a folder of rows for every run; that of the victim by default.
      listeners: other victims that every row is repeated for; they have heard ``speech``.

    Raises:
      UsageError, InputError: see the message.
    """
    attack, bounded = attack_and_bounds(config)
    victim = _load_victim(config) if speech is None else speech.victim
    generator = attack.generator if isinstance(attack, StaaNet) else None
    if generator is not None:
        _check_generator(generator, victim, config)
    if not bounded:
        attack = dataclasses.replace(attack, bounds=victim.bounds)
    parts = members(attack, len(victim.labels))
    epsilons = _epsilons(config, all(part.minimal_norm for part in parts), generator)
    norm = check_budgets(attack, epsilons, config.epsilon_unit, len(victim.labels))
    if speech is None:
        speech = _load_speech(config, victim)
    else:
        rows = spread_rows(len(speech.positions), config.limit)
        listeners = [dataclasses.replace(each, clean=each.clean[rows]) for each in listeners]
        speech = speech.spread(config.limit)
    shown = _shown(config, speech)
    values = parameters(attack)
    identity = {
        "attack": attack.name,
        "parameters": values,
        "seed": config.seed,
        "y": config.y,
        "target": config.target,
        "split": config.split,
        "domain": config.domain,
        "scheme": list(speech.scheme),
        "victim": speech.fingerprint,
        "corpus": speech.prepared.fingerprint,
        "columns": SCHEMA.names,
    }
    if config.stoi:
        identity["stoi"] = True
    if listeners:
        identity["listeners"] = [listener.fingerprint for listener in listeners]
    corpus = speech.prepared.corpus
    facts = {
        "victim": f"{victim.name} {config.victim}",
        "victim_fingerprint": speech.fingerprint,
        "threat": f"{victim.name} {config.victim}",
        "corpus": corpus.title,
        "language": corpus.language,
        "synthetic": corpus.synthetic,
        "notes": [*speech.notes, *_generator_notes(generator, config, epsilons)],
        "split": config.split,
        "domain": config.domain,
        "label_source": "target" if config.target is not None else config.y,
        "targeted": config.target is not None,
        "attack": attack.name,
        "parameters": json.dumps(values),
        "parameters_hash": parameters_hash(values),
        "epsilon_unit": config.epsilon_unit,
        "epsilon_norm": norm,
        "seed": config.seed,
        "device": device_name(),
    }
    default = folder or config.victim / "attacks"
    default /= f"{attack.name}-{parameters_hash(identity)}"
    return Run(
        config=config,
        speech=speech,
        attack=attack,
        epsilons=epsilons,
        members=_distinct([part.name for part in parts])
        if isinstance(attack, AttackSequence)
        else (),
        attacked=_attacked_labels(config, speech),
        shown=shown,
        listeners=tuple(listeners),
        facts=facts,
        out=_checked_out(config.out, default, facts),
    )


def _shown(config: AttackCommandConfig, speech: Speech) -> tuple[int, ...]:
    """Places of the utterances to be shown, among those that are attacked."""
    for name, asked in (("--show", config.show), ("--stoi", config.stoi)):
        if asked and config.domain != "waveform":
            raise UsageError(f"{name} is of speech; leave it out with --domain {config.domain}.")
    ids = [utterance.id for utterance in speech.utterances]
    for name in config.show:
        if name not in ids:
            raise UsageError(
                f"--show {name!r} is not among the {len(ids)} utterances attacked; "
                f"{nearest_name(name, ids)}"
            )
    return tuple(ids.index(name) for name in config.show)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run of the command needs, checked and loaded."""

    config: AttackCommandConfig
    speech: Speech
    attack: Attack | AttackSequence
    epsilons: tuple[float, ...]
    members: tuple[str, ...]  # names of a composite attack's members; empty for others
    attacked: np.ndarray  # labels to leave or reach
    facts: Mapping[str, Any]  # columns that are the same in all rows
    out: Path
    example: int | None = None  # of the utterances, whose attacked input is kept
    shown: tuple[int, ...] = ()  # of the utterances, as files to look at and to listen to
    listeners: tuple[Listener, ...] = ()

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
            },
            "environment": environment(),
        }

    def headline(self) -> str:
        utterances = self.utterances
        speakers = len({utterance.speaker for utterance in utterances})
        goal = f"towards {self.config.target}" if self.config.target else f"from {self.config.y}"
        of = "the features of " if self.config.domain == "features" else ""
        lines = [
            f"{self.attack.name} ({goal}) on {of}{self.speech.victim.name} of "
            f"{self.config.victim}; {self.corpus.title}, {self.config.split}: {len(utterances)} "
            f"utterances, {speakers} speakers",
            "hyper-parameters: "
            + ", ".join(f"{k} {v}" for k, v in json.loads(self.facts["parameters"]).items()),
        ]
        lines += [f"note: {note}" for note in [*self.facts["notes"], *self._oddities()]]
        return "\n".join(lines)

    def _oddities(self) -> list[str]:
        """What the clean pass found that makes attacks mean something else."""
        notes = []
        flags = self.speech.clean.flags
        if (flags & RANDOMISED).any():
            notes.append(
                "the victim is randomised (two passes over the same speech differ): its gradients "
                "are noisy, and the same row may come out differently under another seed"
            )
        alike = int((flags & PROBABILITIES != 0).sum())
        if alike:
            notes.append(
                f"the victim's outputs look like probabilities for {alike} of {len(flags)} "
                "utterances: attacks need logits, and their gradients are weak without"
            )
        return notes

    def key(self, utterance: str, epsilon: float) -> "_RowKey":
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
        return bool(wanted) or self.example is not None

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
        ids = pa.array([u.id for u in self.utterances], pa.string())
        epsilons = pa.array(self.epsilons, pa.float64())
        for rows in row_files(self.out, ["victim_fingerprint", "utterance", *_BUDGET]):
            own = pc.and_(
                pc.equal(rows["victim_fingerprint"], self.speech.fingerprint),
                pc.equal(rows["epsilon_unit"], self.config.epsilon_unit),
            )
            rows = rows.filter(own)
            places = pc.index_in(rows["utterance"], ids), pc.index_in(rows["epsilon"], epsilons)
            i, e = (np.asarray(pc.fill_null(each, -1)) for each in places)
            asked = (i >= 0) & (e >= 0)
            found[i[asked], e[asked]] = True
        return found

    def missing(self, done: np.ndarray | None = None) -> np.ndarray:
        """Which pairs lack a row or a file: ``[utterances, epsilons]``.

        Args:
          done: from :meth:`done`, where it is known already.
        """
        lacking = ~(self.done() if done is None else done)
        for i, utterance in enumerate(self.utterances):
            paths = [self.wav_path] if self.config.save_wav else []
            paths += [self.example_path] if i == self.example else []
            paths += [self.picture_path] if i in self.shown else []
            for e, epsilon in enumerate(self.epsilons):
                lacking[i, e] |= not all(path(utterance, epsilon).exists() for path in paths)
        return lacking

    def wav_path(self, utterance: Utterance, epsilon: float) -> Path:
        # Speech that was made from attacked features is not what the victim was given.
        kind = "wav" if self.config.domain == "waveform" else "wav-inverted"
        return self._path(kind, utterance, epsilon, ".wav")

    def example_path(self, utterance: Utterance, epsilon: float) -> Path:
        return self._path("example", utterance, epsilon, ".npy")

    def picture_path(self, utterance: Utterance, epsilon: float) -> Path:
        """Of a shown utterance; its WAV files lie beside it."""
        return self._path("shown", utterance, epsilon, "") / "picture.png"

    def _path(self, kind: str, utterance: Utterance, epsilon: float, suffix: str) -> Path:
        unit = self.config.epsilon_unit
        name = "epsilon" if unit == "amplitude" else unit
        folder = (self.out / kind / f"{name}-{epsilon:g}").resolve()
        path = folder / f"{utterance.id}{suffix}"
        if not path.resolve().is_relative_to(folder):
            raise InputError(f"the utterance id {utterance.id!r} leads out of {folder}; rename it.")
        return path


_BUDGET = ("epsilon", "epsilon_unit")
_RowKey = tuple[str, float, str]


def _load_victim(config: AttackCommandConfig) -> Victim:
    read_run(config.victim)  # a mistyped run folder must not be looked for on the hub
    return load_victim(config.victim, config.domain)


def _load_speech(config: AttackCommandConfig, victim: Victim, share: Share = WHOLE) -> Speech:
    trained, _ = read_run(config.victim)
    corpus_config = _attacked_corpus(trained.corpus, config)
    if config.domain == "features" and corpus_config.name != trained.corpus.name:
        raise UsageError(
            f"the features of {victim.name} in {config.victim} are standardised with statistics of "
            f"{trained.corpus.name}, so those of {corpus_config.name} are of another scale; attack "
            "its own corpus, or the waveforms."
        )
    prepared = select(corpus_config)
    corpus = prepared.corpus
    labels = _victim_labels(corpus, victim.labels, config.victim)
    positions = split_rows(corpus, config.split)
    target = _target(config, victim.labels)
    if target is not None:
        positions = positions[labels[positions] != target]
    if len(positions) == 0:
        raise InputError(
            f"{corpus.name} has no utterance to attack in its {config.split} part; give another "
            "--split."
        )
    if config.by == "gender" and all(u.gender == "unknown" for u in corpus.utterances):
        raise UsageError(
            f"{corpus.name} does not say its speakers' gender, so there is no table by gender; "
            "leave --by out."
        )
    positions = positions[spread_rows(len(positions), config.limit)]
    positions = positions[share.rows(len(positions))]
    inputs: np.ndarray = prepared.waveforms
    places = positions
    if config.domain == "features":
        inputs, places = _features(victim, prepared.waveforms, positions), np.arange(len(positions))
    return Speech(
        victim=victim,
        fingerprint=fingerprint_of(victim.variables),
        scheme=(corpus_config.split, corpus_config.split_seed, corpus_config.fold),
        prepared=prepared,
        positions=positions,
        inputs=inputs,
        places=places,
        labels=labels[positions],
        clean=clean_pass(
            victim,
            inputs,
            subset=places,
            seed=config.seed,
            ids=[corpus.utterances[i].id for i in positions],
            batch_size=config.batch_size,
        )
        if len(positions)
        else CleanPass(np.zeros(0, np.int32), np.zeros(0, np.uint32)),
    )


def _attacked_labels(config: AttackCommandConfig, speech: Speech) -> np.ndarray:
    """Class indices to leave, or to reach."""
    target = _target(config, speech.victim.labels)
    if target is not None:
        return np.full(len(speech.positions), target, np.int32)
    attacked = speech.labels if config.y == "truth" else speech.clean.prediction
    if (attacked < 0).any():
        name = speech.utterances[int((attacked < 0).argmax())].id
        raise InputError(
            f"the victim's logits for {name} are not finite, so there is no prediction to attack; "
            "use --y truth or leave the file out."
        )
    return attacked


def _features(victim: Victim, waveforms: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """What a spectrogram victim reads of some utterances."""
    import jax

    assert victim.front_end is not None
    features = jax.jit(victim.front_end.features)
    batches = RowBatches(waveforms, positions)
    return np.concatenate([np.asarray(features(victim.variables, x)) for x in batches])


def _check_generator(generator: Generator, victim: Victim, config: AttackCommandConfig) -> None:
    """Refuse a generator that was trained for other speech or another goal than is asked for."""
    if config.domain != "waveform":
        raise UsageError("staanet changes speech; use the domain waveform.")
    if victim.labels != generator.labels:
        raise InputError(
            f"the generator {generator.name} was trained for the labels "
            f"{', '.join(generator.labels)}, but {config.victim} knows {', '.join(victim.labels)}; "
            "give a victim of the same labels."
        )
    if victim.sample_rate != generator.sample_rate:
        raise InputError(
            f"the generator {generator.name} is for speech at {generator.sample_rate} Hz, but "
            f"{config.victim} hears {victim.sample_rate} Hz; give a victim of the same rate."
        )
    generator.check_inputs((1, *victim.input_shape))
    if generator.target not in (None, ALL_TARGETS, config.target):
        raise UsageError(
            f"the generator {generator.name} was trained to reach {generator.target}; give "
            f"--target {generator.target}."
        )


def _generator_notes(
    generator: Generator | None, config: AttackCommandConfig, epsilons: Sequence[float]
) -> list[str]:
    if generator is None or config.epsilon_unit != "amplitude":
        return []
    low, high = generator.epsilon
    # A range that is met to the last digit of what the config says is met.
    if all(low * (1 - 1e-6) <= epsilon <= high * (1 + 1e-6) for epsilon in epsilons):
        return []
    trained = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return [f"the generator was trained for ε {trained} alone"]


def _epsilons(
    config: AttackCommandConfig, unlimited: bool, generator: Generator | None
) -> tuple[float, ...]:
    """The budgets, or what they are without any given."""
    if config.epsilon:
        if len(set(config.epsilon)) < len(config.epsilon):
            raise UsageError("the same epsilon is given twice; give each once.")
        return config.epsilon
    if config.epsilon_unit != "amplitude":
        raise UsageError(
            f"--epsilon_unit {config.epsilon_unit} needs an --epsilon in dB, such as 30."
        )
    if generator is not None:
        return tuple(sorted(set(generator.epsilon)))
    return _NO_LIMIT if unlimited else _DEFAULT_EPSILONS


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a composite attack's members, numbered where one comes twice."""
    return tuple(
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    )


def _checked_out(asked: Path | None, default: Path, facts: Mapping[str, Any]) -> Path:
    """The folder of the rows; rows of another run that lie there are refused."""

    if asked is None:
        return default
    if asked.exists() and not asked.is_dir():
        raise UsageError(f"{asked} is a file; give another --out.")
    if any(asked.glob("rows-*.parquet")):
        first = read_rows(asked).slice(0, 1).to_pylist()[0]
        for name in facts:
            if (
                name not in ("device", "victim", "threat", "notes", "epsilon_unit")
                and first[name] != facts[name]
            ):
                raise UsageError(
                    f"{asked} holds rows with {name} {first[name]}, not {facts[name]}; give "
                    "another --out."
                )
    return asked


def _attacked_corpus(trained: CorpusConfig, config: AttackCommandConfig) -> CorpusConfig:
    """The victim's own corpus section, with what the command says otherwise."""
    asked = config.corpus
    changes: dict[str, Any] = {"skip_damaged": asked.skip_damaged or trained.skip_damaged}
    if asked.name is not None and asked.name != trained.name:
        changes |= {"root": None, "split": "standard", "split_file": None}
    for name in ("name", "root", "split", "split_file", "cache_dir"):
        if getattr(asked, name) is not None:
            changes[name] = getattr(asked, name)
    return dataclasses.replace(trained, **changes)


def _victim_labels(corpus: Corpus, known: Sequence[str], folder: Path) -> np.ndarray:
    """The victim's class index of every utterance."""

    strange = sorted(set(corpus.labels) - set(known))
    if strange:
        raise InputError(
            f"{corpus.name} has labels that the victim in {folder} was not trained on: "
            f"{', '.join(strange)} (it knows {', '.join(known)}); attack the victim's own corpus."
        )
    return np.array([known.index(u.label) for u in corpus.utterances], np.int32)


def _target(config: AttackCommandConfig, known: Sequence[str]) -> int | None:
    if config.target is None:
        return None
    if config.target not in known:
        raise UsageError(
            f"there is no label {config.target!r} to reach; {nearest_name(config.target, known)}"
        )
    return known.index(config.target)


def attack_missing_rows(run: Run, *, shown: bool = True) -> Throughput:
    """Make the rows that are not there yet; KeyboardInterrupt after Ctrl-C, the rows kept.

    Args:
      run: of :func:`prepare_run`.
      shown: whether there is a progress bar.
    """

    done = run.done()
    missing = run.missing(done)
    throughput = Throughput()
    if not missing.any():
        return throughput
    with (
        RowWriter(run.out, run.source()) as writer,
        AttackBar(run.attack.name, int(missing.sum()), shown=shown) as bar,
        Interruption() as interruption,
    ):

        def watch(progress: Progress) -> bool:
            bar.watch(progress)
            return not interruption.asked

        # Utterances that lack rows at the same ε: all of them as a rule, few where a run goes on.
        for lacked in np.unique(missing[missing.any(axis=1)], axis=0)[::-1]:
            lacking = np.flatnonzero((missing == lacked).all(axis=1))
            before, of_stream = throughput, Throughput()
            for block in _blocks(run, lacking, np.flatnonzero(lacked), watch):
                of_stream = block.throughput
                _keep(run, lacking[block.utterance], block, done, writer)
                bar.add(block)
            throughput = before + of_stream
    # Only now are the rows written.
    if interruption.asked:
        raise KeyboardInterrupt
    return throughput


def _blocks(
    run: Run, lacking: np.ndarray, wanted: np.ndarray, watch: Callable[[Progress], bool]
) -> Iterator[RowBlock]:
    """Rows of some utterances at some of the ε."""
    config = run.config
    for block in attack_rows(
        run.speech.victim,
        run.speech.inputs,
        run.attacked[lacking],
        run.attack,
        [run.epsilons[e] for e in wanted],
        epsilon_unit=config.epsilon_unit,
        subset=run.speech.places[lacking],
        seed=config.seed,
        ids=[run.utterances[i].id for i in lacking],
        batch_size=config.batch_size,
        keep_x_adv=run.kept_inputs(),
        clean=run.speech.clean.take(lacking),
        watch=watch,
    ):
        yield dataclasses.replace(block, epsilon_index=wanted[block.epsilon_index])


def _keep(
    run: Run, where: np.ndarray, block: RowBlock, done: np.ndarray, writer: RowWriter
) -> None:
    """Write what a block leaves: files first, then the rows that say that it is done."""
    if run.config.save_wav:
        _write_wav(run, where, block)
    if run.example is not None:
        _write_example(run, where, block)
    if run.shown:
        _show(run, where, block)
    new = ~done[where, block.epsilon_index]
    if new.any():
        own = _columns(run, where, block, new)
        heard = (_heard(run, each, own, where, block, new) for each in run.listeners)
        writer.add(own, *heard)


def _columns(run: Run, where: np.ndarray, block: RowBlock, new: np.ndarray) -> dict[str, Any]:
    """The block's rows that are ``new``, as columns of the row schema."""

    names = run.speech.victim.labels
    count = int(new.sum())
    utterances = [run.utterances[i] for i in where[new]]
    flags = [
        [name for bit, name in FLAG_NAMES.items() if value & bit] for value in block.flags[new]
    ]
    return {
        **{name: [value] * count for name, value in run.facts.items()},
        "utterance": [utterance.id for utterance in utterances],
        "speaker": [utterance.speaker for utterance in utterances],
        "gender": [utterance.gender for utterance in utterances],
        "label": [names[i] for i in run.speech.labels[where[new]]],
        "attacked_label": [names[i] for i in run.attacked[where[new]]],
        "clean_prediction": [_name(names, i) for i in run.speech.clean.prediction[where[new]]],
        "prediction": [_name(names, i) for i in block.prediction[new]],
        "epsilon": [run.epsilons[i] for i in block.epsilon_index[new]],
        "epsilon_amplitude": block.epsilon_amplitude[new].astype("float64"),
        "success": block.success[new],
        "stage": [_name(run.members, i) for i in block.stage[new]],
        "found_norm": block.found_norm[new].astype("float64"),
        **{name: values[new].astype("float64") for name, values in block.measures.items()},
        "stoi": _stoi(run, where, block, new),
        "steps": block.steps[new].astype("int64"),
        "queries": block.queries[new].astype("int64"),
        "gradients": block.gradients[new].astype("int64"),
        "flags": flags,
        "seconds": block.seconds[new],
        "compile_seconds": [block.throughput.compile_seconds] * count,
        "compile_count": [block.throughput.compile_count] * count,
    }


def _heard(
    run: Run,
    listener: Listener,
    own: Mapping[str, Any],
    where: np.ndarray,
    block: RowBlock,
    new: np.ndarray,
) -> dict[str, Any]:
    """The same rows as another victim hears them: it costs no step and no query of the attack."""
    assert block.x_adv is not None
    names, count = listener.victim.labels, int(new.sum())
    clean = listener.clean[where[new]]
    found = predict(listener.victim, block.x_adv[new], batch_size=_HEARD_ROWS)
    # What is left is its own prediction where predictions are attacked.
    by_prediction = run.config.y == "prediction" and run.config.target is None
    attacked = clean if by_prediction else run.attacked[where[new]]
    nothing = np.zeros(count, np.int64)
    return {
        **own,
        "victim": [listener.name] * count,
        "victim_fingerprint": [listener.fingerprint] * count,
        "attacked_label": [_name(names, i) for i in attacked],
        "clean_prediction": [_name(names, i) for i in clean],
        "prediction": [_name(names, i) for i in found],
        "success": is_successful(found, attacked, run.config.target is not None),
        "stage": [None] * count,
        "found_norm": np.full(count, np.nan),
        **dict.fromkeys(("steps", "queries", "gradients", "compile_count"), nothing),
        "flags": [[]] * count,
        **dict.fromkeys(("seconds", "compile_seconds"), nothing.astype(float)),
    }


def _stoi(run: Run, where: np.ndarray, block: RowBlock, new: np.ndarray) -> np.ndarray:
    if not run.config.stoi:
        return np.full(int(new.sum()), np.nan)
    assert block.x_adv is not None
    x = run.speech.inputs[run.speech.places[where[new]]]
    return short_time_intelligibility(x, block.x_adv[new], run.speech.victim.sample_rate)


def _name(names: Sequence[str], index: int) -> str | None:
    return names[index] if index >= 0 else None


def _keys(rows: pa.Table) -> list[_RowKey]:
    columns = (rows[name].to_pylist() for name in ("utterance", *_BUDGET))
    return list(zip(*columns, strict=True))


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


def _write_example(run: Run, where: np.ndarray, block: RowBlock) -> None:
    assert block.x_adv is not None
    for i, e, x in zip(where, block.epsilon_index, block.x_adv, strict=True):
        if i == run.example:
            with atomic_file(run.example_path(run.utterances[i], run.epsilons[e])) as temporary:
                np.save(temporary, x)
