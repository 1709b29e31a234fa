"""Attack a victim: ``python -m jaxser.attack --victim runs/NAME --attack pgd --epsilon 0.01``.

It prints clean and robust figures per ε and leaves one row per utterance and ε in Parquet files.
A run that was stopped goes on when the same command is given again: rows that are there stay.
Ctrl-C writes the rows that are finished and leaves with exit status 130; twice, it leaves at once.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.config import AttackCommandConfig, CorpusConfig, load_yaml, parse_command
from jaxser.errors import INTERRUPTED, InputError, UsageError, nearest_name, report_errors

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from jaxser.attacks import Attack
    from jaxser.corpora import Corpus, Prepared, Utterance
    from jaxser.driver import AttackSequence, CleanPass, Progress, RowBlock, Throughput
    from jaxser.victim import Victim

_DEFAULT_EPSILONS = (0.005, 0.01)
_NO_LIMIT = (float("inf"),)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    config = parse_command(
        AttackCommandConfig,
        "python -m jaxser.attack",
        "Attack a victim on its held-out speech and say how robust it is. Without arguments: "
        "PGD on the demo's victim. README.md has the table of all attacks.",
        argv,
    )
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    from jaxser.compilation import enable_compilation_cache
    from jaxser.results import format_table, summarise

    enable_compilation_cache()
    run = None
    try:
        run = prepare_run(config)
        throughput = attack_missing_rows(run)
    except KeyboardInterrupt:
        kept = f"{len(run.rows())} rows are kept in {run.out}" if run else "no row is made yet"
        print(f"interrupted: {kept}; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    rows = run.rows()
    print(run.headline())
    print(format_table(summarise(rows, interval_over=config.interval_over)))
    if config.by is not None:
        print(f"\nby {config.by}:")
        print(format_table(summarise(rows, by=config.by, interval_over=config.interval_over)))
    print(_speed(throughput, len(rows)))
    print(f"rows in {run.out}")
    return 0


def prepare_run(config: AttackCommandConfig) -> "Run":
    """Check what ``config`` asks for, and load the victim and the speech.

    Raises:
      UsageError, InputError: see the message.
    """
    from jaxser.attacks import from_parameters

    name, parameters = _named_attack(config.attack)
    parameters |= _parameters(config)
    return _load_run(config, from_parameters(name, parameters), "bounds" in parameters)


def _named_attack(attack: str) -> tuple[str, dict[str, Any]]:
    """Name and hyper-parameters: of a YAML file, or the name alone."""
    if not attack.endswith((".yaml", ".yml")):
        return attack, {}
    content = load_yaml(Path(attack))
    known = {"name", "paper", "parameters"}
    for key in content:
        if key not in known:
            raise UsageError(f"{attack} has an unknown key {key!r}; {nearest_name(key, known)}")
    if not isinstance(content.get("name"), str) or not isinstance(
        content.get("parameters", {}), dict
    ):
        raise UsageError(f"{attack} must have a name: and, as a mapping, parameters:.")
    return content["name"], dict(content.get("parameters", {}))


def _parameters(config: AttackCommandConfig) -> dict[str, Any]:
    """``steps=40`` ... as a mapping."""
    values: dict[str, Any] = {}
    for text in config.params:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--params {text!r} is not of the form name=value, such as steps=40.")
        values[name.strip()] = _parameter_value(value.strip())
    if "targeted" in values:
        raise UsageError("--params cannot set targeted; give --target LABEL.")
    return values | ({"targeted": True} if config.target is not None else {})


def _parameter_value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    return tuple(text.split(",")) if "," in text else text


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run of the command needs, checked and loaded."""

    config: AttackCommandConfig
    victim: "Victim"
    prepared: "Prepared"
    attack: "Attack | AttackSequence"
    epsilons: tuple[float, ...]
    members: tuple[str, ...]  # names of a composite attack's members; empty for others
    positions: "np.ndarray"  # in the corpus' table
    inputs: "np.ndarray"  # what the attack changes: waveforms, or their features
    places: "np.ndarray"  # of the utterances in ``inputs``
    labels: "np.ndarray"  # class indices of the victim
    clean: "CleanPass"
    attacked: "np.ndarray"  # labels to leave or reach
    facts: Mapping[str, Any]  # columns that are the same in all rows
    out: Path

    @property
    def utterances(self) -> "list[Utterance]":
        return [self.prepared.corpus.utterances[i] for i in self.positions]

    def headline(self) -> str:
        corpus = self.prepared.corpus
        speakers = len({utterance.speaker for utterance in self.utterances})
        goal = f"towards {self.config.target}" if self.config.target else f"from {self.config.y}"
        of = "the features of " if self.config.domain == "features" else ""
        lines = [
            f"{self.attack.name} ({goal}) on {of}{self.victim.name} of {self.config.victim}; "
            f"{corpus.title}, {self.config.split}: {len(self.positions)} utterances, "
            f"{speakers} speakers",
            "hyper-parameters: "
            + ", ".join(f"{k} {v}" for k, v in json.loads(self.facts["parameters"]).items()),
        ]
        lines += [f"note: {note}" for note in [*self.facts["notes"], *self._oddities()]]
        return "\n".join(lines)

    def _oddities(self) -> list[str]:
        """What the clean pass found that makes attacks mean something else."""
        from jaxser.attacks.base import PROBABILITIES, RANDOMISED

        notes = []
        if (self.clean.flags & RANDOMISED).any():
            notes.append(
                "the victim is randomised (two passes over the same speech differ): its gradients "
                "are noisy, and the same row may come out differently under another seed"
            )
        alike = int((self.clean.flags & PROBABILITIES != 0).sum())
        if alike:
            notes.append(
                f"the victim's outputs look like probabilities for {alike} of "
                f"{len(self.positions)} utterances: attacks need logits, and their gradients are "
                "weak without"
            )
        return notes

    def key(self, utterance: str, epsilon: float) -> "_RowKey":
        return utterance, epsilon, self.config.epsilon_unit

    def stored(self) -> "pa.Table":
        """All rows of the folder; an empty table where there is none."""
        from jaxser.results import SCHEMA, read_rows

        if not any(self.out.glob("rows-*.parquet")):
            return SCHEMA.empty_table()
        return read_rows(self.out)

    def rows(self) -> "pa.Table":
        """The rows asked for: one per utterance and ε."""
        import pyarrow as pa

        table = self.stored()
        wanted = {self.key(u.id, epsilon) for u in self.utterances for epsilon in self.epsilons}
        first: dict[_RowKey, int] = {}
        for index, key in enumerate(_keys(table)):
            if key in wanted:
                first.setdefault(key, index)
        return table.take(pa.array(sorted(first.values()), pa.int64()))

    def missing(self) -> "np.ndarray":
        """Positions in ``utterances`` that lack a row or a WAV file at some ε."""
        import numpy as np

        have = set(_keys(self.stored()))
        lacking = [
            i
            for i, utterance in enumerate(self.utterances)
            for epsilon in self.epsilons
            if self.key(utterance.id, epsilon) not in have
            or (self.config.save_wav and not self.wav_path(utterance, epsilon).exists())
        ]
        return np.unique(np.array(lacking, np.int64))

    def wav_path(self, utterance: "Utterance", epsilon: float) -> Path:
        unit = self.config.epsilon_unit
        name = "epsilon" if unit == "amplitude" else unit
        # Speech that was made from attacked features is not what the victim was given.
        kind = "wav" if self.config.domain == "waveform" else "wav-inverted"
        folder = (self.out / kind / f"{name}-{epsilon:g}").resolve()
        path = folder / f"{utterance.id}.wav"
        if not path.resolve().is_relative_to(folder):
            raise InputError(f"the utterance id {utterance.id!r} leads out of {folder}; rename it.")
        return path


_RowKey = tuple[str, float, str]


def _load_run(config: AttackCommandConfig, attack: "Attack", bounds_given: bool) -> Run:
    import numpy as np

    from jaxser.attacks import parameters
    from jaxser.corpora.selection import select, split_rows
    from jaxser.driver import AttackSequence, check_budgets, clean_pass, members
    from jaxser.provenance import device_name
    from jaxser.results import SCHEMA, parameters_hash
    from jaxser.victim import load_victim, read_run

    trained, _ = read_run(config.victim)
    victim = load_victim(config.victim, config.domain)
    if not bounds_given:
        attack = dataclasses.replace(attack, bounds=victim.bounds)  # type: ignore[type-var]
    parts = members(attack, len(victim.labels))
    epsilons = _epsilons(config, all(part.minimal_norm for part in parts))
    norm = check_budgets(attack, epsilons, config.epsilon_unit, len(victim.labels))
    corpus_config = _attacked_corpus(trained.corpus, config)
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
    if config.limit is not None and config.limit < len(positions):
        positions = positions[np.linspace(0, len(positions) - 1, config.limit).round().astype(int)]
    inputs: np.ndarray = prepared.waveforms
    places = positions
    if config.domain == "features":
        inputs, places = _features(victim, prepared.waveforms, positions), np.arange(len(positions))
    clean = clean_pass(
        victim,
        inputs,
        subset=places,
        seed=config.seed,
        ids=[corpus.utterances[i].id for i in positions],
        batch_size=config.batch_size,
    )
    attacked = labels[positions] if config.y == "truth" else clean.prediction
    if target is not None:
        attacked = np.full(len(positions), target, np.int32)
    elif (attacked < 0).any():
        name = corpus.utterances[positions[int((attacked < 0).argmax())]].id
        raise InputError(
            f"the victim's logits for {name} are not finite, so there is no prediction to attack; "
            "use --y truth or leave the file out."
        )
    values = parameters(attack)
    identity = {
        "attack": attack.name,
        "parameters": values,
        "seed": config.seed,
        "y": config.y,
        "target": config.target,
        "split": config.split,
        "domain": config.domain,
        "scheme": [corpus_config.split, corpus_config.split_seed, corpus_config.fold],
        "victim": _fingerprint(victim.variables),
        "corpus": prepared.fingerprint,
        "columns": SCHEMA.names,
    }
    facts = {
        "victim": f"{victim.name} {config.victim}",
        "victim_fingerprint": identity["victim"],
        "corpus": corpus.title,
        "language": corpus.language,
        "synthetic": corpus.synthetic,
        "notes": list(dict.fromkeys([*victim.notes, *corpus.notes])),
        "split": config.split,
        "domain": config.domain,
        "label_source": "target" if target is not None else config.y,
        "targeted": target is not None,
        "attack": attack.name,
        "parameters": json.dumps(values),
        "parameters_hash": parameters_hash(values),
        "epsilon_unit": config.epsilon_unit,
        "epsilon_norm": norm,
        "seed": config.seed,
        "device": device_name(),
    }
    default = config.victim / "attacks" / f"{attack.name}-{parameters_hash(identity)}"
    return Run(
        config=config,
        victim=victim,
        prepared=prepared,
        attack=attack,
        epsilons=epsilons,
        members=_distinct([part.name for part in parts])
        if isinstance(attack, AttackSequence)
        else (),
        positions=positions,
        inputs=inputs,
        places=places,
        labels=labels[positions],
        clean=clean,
        attacked=attacked,
        facts=facts,
        out=_checked_out(config.out, default, facts),
    )


def _features(victim: "Victim", waveforms: "np.ndarray", positions: "np.ndarray") -> "np.ndarray":
    """What a spectrogram victim reads of some utterances."""
    import jax
    import numpy as np

    from jaxser.models.front_end import RowBatches

    assert victim.front_end is not None
    features = jax.jit(victim.front_end.features)
    batches = RowBatches(waveforms, positions)
    return np.concatenate([np.asarray(features(victim.variables, x)) for x in batches])


def _epsilons(config: AttackCommandConfig, unlimited: bool) -> tuple[float, ...]:
    """The budgets, or what they are without any given."""
    if config.epsilon:
        if len(set(config.epsilon)) < len(config.epsilon):
            raise UsageError("the same epsilon is given twice; give each once.")
        return config.epsilon
    if config.epsilon_unit != "amplitude":
        raise UsageError(
            f"--epsilon_unit {config.epsilon_unit} needs an --epsilon in dB, such as 30."
        )
    return _NO_LIMIT if unlimited else _DEFAULT_EPSILONS


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a composite attack's members, numbered where one comes twice."""
    return tuple(
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    )


def _checked_out(asked: Path | None, default: Path, facts: Mapping[str, Any]) -> Path:
    """The folder of the rows; rows of another run that lie there are refused."""
    from jaxser.results import read_rows

    if asked is None:
        return default
    if asked.exists() and not asked.is_dir():
        raise UsageError(f"{asked} is a file; give another --out.")
    if any(asked.glob("rows-*.parquet")):
        first = read_rows(asked).slice(0, 1).to_pylist()[0]
        for name in facts:
            if (
                name not in ("device", "victim", "notes", "epsilon_unit")
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


def _victim_labels(corpus: "Corpus", known: Sequence[str], folder: Path) -> "np.ndarray":
    """The victim's class index of every utterance."""
    import numpy as np

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


def _fingerprint(variables: Any) -> str:
    """SHA-256 of the victim's parameters and statistics, shortened."""
    import hashlib

    import jax
    import numpy as np

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def attack_missing_rows(run: Run) -> "Throughput":
    """Make the rows that are not there yet; KeyboardInterrupt after Ctrl-C, the rows kept."""
    import numpy as np

    from jaxser.driver import Throughput, attack_rows
    from jaxser.progress import AttackBar, Interruption
    from jaxser.results import RowWriter

    lacking = run.missing()
    throughput = Throughput()
    if len(lacking) == 0:
        return throughput
    have = set(_keys(run.stored()))
    config, utterances = run.config, run.utterances
    with (
        RowWriter(run.out) as writer,
        AttackBar(run.attack.name, len(lacking) * len(run.epsilons)) as bar,
        Interruption() as interruption,
    ):

        def watch(progress: "Progress") -> bool:
            bar.watch(progress)
            return not interruption.asked

        for block in attack_rows(
            run.victim,
            run.inputs,
            run.attacked[lacking],
            run.attack,
            run.epsilons,
            epsilon_unit=config.epsilon_unit,
            subset=run.places[lacking],
            seed=config.seed,
            ids=[utterances[i].id for i in lacking],
            batch_size=config.batch_size,
            keep_x_adv=config.save_wav,
            clean=run.clean.take(lacking),
            watch=watch,
        ):
            throughput = block.throughput
            where = lacking[block.utterance]
            if config.save_wav:
                _write_wav(run, where, block)
            keys = [
                run.key(utterances[i].id, run.epsilons[e])
                for i, e in zip(where, block.epsilon_index, strict=True)
            ]
            new = np.array([key not in have for key in keys], bool)
            if new.any():
                writer.add(_columns(run, where, block, new))
            bar.add(block)
    # Only now are the rows written.
    if interruption.asked:
        raise KeyboardInterrupt
    return throughput


def _columns(run: Run, where: "np.ndarray", block: "RowBlock", new: "np.ndarray") -> dict[str, Any]:
    """The block's rows that are ``new``, as columns of the row schema."""
    from jaxser.attacks.base import FLAG_NAMES

    names = run.victim.labels
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
        "label": [names[i] for i in run.labels[where[new]]],
        "attacked_label": [names[i] for i in run.attacked[where[new]]],
        "clean_prediction": [_name(names, i) for i in run.clean.prediction[where[new]]],
        "prediction": [_name(names, i) for i in block.prediction[new]],
        "epsilon": [run.epsilons[i] for i in block.epsilon_index[new]],
        "epsilon_amplitude": block.epsilon_amplitude[new].astype("float64"),
        "success": block.success[new],
        "stage": [_name(run.members, i) for i in block.stage[new]],
        "found_norm": block.found_norm[new].astype("float64"),
        **{name: values[new].astype("float64") for name, values in block.measures.items()},
        "steps": block.steps[new].astype("int64"),
        "queries": block.queries[new].astype("int64"),
        "gradients": block.gradients[new].astype("int64"),
        "flags": flags,
        "seconds": block.seconds[new],
        "compile_seconds": [block.throughput.compile_seconds] * count,
        "compile_count": [block.throughput.compile_count] * count,
    }


def _name(names: Sequence[str], index: int) -> str | None:
    return names[index] if index >= 0 else None


def _keys(rows: "pa.Table") -> list[_RowKey]:
    columns = (rows[name].to_pylist() for name in ("utterance", "epsilon", "epsilon_unit"))
    return list(zip(*columns, strict=True))


def _write_wav(run: Run, where: "np.ndarray", block: "RowBlock") -> None:
    """The very samples that fooled the victim, none rounded to 16 bits; or what features sound
    like."""
    from jaxser.audio import write_wav

    assert block.x_adv is not None
    victim = run.victim
    for i, e, samples in zip(where, block.epsilon_index, block.x_adv, strict=True):
        path = run.wav_path(run.utterances[i], run.epsilons[e])
        if run.config.domain == "features":
            assert victim.front_end is not None
            samples = victim.front_end.speech(victim.variables, samples)
        write_wav(path, samples, victim.sample_rate)


def _speed(throughput: "Throughput", rows: int) -> str:
    if throughput.rows == 0:
        return f"all {rows} rows were there already"
    wasted = throughput.wasted_row_steps / max(1, throughput.row_steps)
    return (
        f"{throughput.rows} rows in {throughput.seconds:.1f} s, {throughput.rows_per_second:.2f} "
        f"rows/s steady state, after {throughput.compile_seconds:.1f} s of compilation "
        f"({throughput.compile_count} programs); "
        f"{wasted:.1%} of the attack steps fell on empty or finished slots"
    )


if __name__ == "__main__":
    sys.exit(report_errors(main))
