"""The search of hyper-parameters: trials, their config, and the table that ends it.

    study = search(TuneConfig())
    print(format_study(study, config))

Optuna's sampler proposes and its Hyperband pruner stops trials that fall behind. Where there are
trials enough for all values, each is tried once, in their order. What was tried lies in the folder
of the search, which goes on from there: a trial that was killed is taken up where its training
was, and what is drawn for a trial depends on its number and the search's seed alone. So a search
that was stopped ends as one that was not.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from jaxser import models
from jaxser.config import TrainConfig, to_mapping
from jaxser.config.tune import SearchConfig, TuneConfig
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.locks import held
from jaxser.runtime.signals import Stopped
from jaxser.training.run import train_victim

__all__ = ["format_study", "search", "trial_config"]


# The search space, in the order in which its values are drawn, and the flags that set them.
_TRAINING = ("learning_rate", "batch_size")
_MODEL = ("dropout", "lstm_dropout", "units")


def search(config: TuneConfig) -> optuna.Study:
    """Run the trials that are missing of those asked for.

    Raises:
      UsageError: the folder holds another search; the split has no validation part.
      InputError: another process searches there; a trial cannot be trained.
      Stopped: a signal has stopped a trial, which goes on with the next start.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _searched(config)
    if config.search.min_epochs > config.training.epochs:
        raise UsageError(
            f"--search.min_epochs {config.search.min_epochs} is more than the "
            f"{config.training.epochs} epochs of a training; give up to as many."
        )
    with held(config.search.out, "searched"):
        study = _study(config)
        for trial in study.get_trials(deepcopy=False):
            # Nobody else is here: its process is gone.
            if trial.state == TrialState.RUNNING:
                _tell(config, study, optuna.Trial(study, trial._trial_id))
        while sum(_ended(trial) for trial in study.trials) < config.search.trials:
            _propose_the_next(config, study)
            study.sampler = _sampler(config, len(study.trials))
            _tell(config, study, study.ask())
        return study


def _tell(config: TuneConfig, study: optuna.Study, trial: optuna.Trial) -> None:
    """Run a trial, and note how it ended; what only stops it leaves it to be taken up."""
    try:
        loss = _run(config, trial)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except InputError:
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        study.tell(trial, loss)


def trial_config(
    config: TuneConfig, values: Mapping[str, Any], out: Path, execution: int = 0
) -> TrainConfig:
    """One training run of one trial."""
    return TrainConfig(
        out=out if execution == 0 else out.with_name(f"{out.name}-{execution}"),
        seed=config.seed + execution,
        corpus=config.corpus,
        features=config.features,
        model=dataclasses.replace(config.model, **_some(values, _MODEL)),
        training=dataclasses.replace(config.training, **_some(values, _TRAINING)),
    )


def _some(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _searched(config: TuneConfig) -> list[str]:
    """Names of what is searched: many victims have no dropout, or none in an LSTM.

    Raises:
      UsageError: the victim has nothing of it, or values are given of what is not searched.
    """
    for name in (*_TRAINING, *_MODEL):
        given = getattr(config.search, name) != getattr(SearchConfig(), name)
        if given and name not in config.search.fields:
            raise UsageError(
                f"--search.{name} gives values of what is not searched; add {name} to "
                "--search.fields, or leave them out."
            )
    victim = models.build(config.model.name, num_classes=2)
    has = {field.name for field in dataclasses.fields(victim)} | {*_TRAINING}
    searched: Sequence[str] = config.search.fields
    found = [name for name in (*_TRAINING, *_MODEL) if name in searched and name in has]
    if not found:
        raise UsageError(
            f"{config.model.name} has no {' and no '.join(searched)}; give other --search.fields."
        )
    return found


def _study(config: TuneConfig) -> optuna.Study:
    """The search in the folder, or a new one there."""
    file = config.search.out / "study.jsonl"
    _mend(file)
    study = optuna.create_study(
        study_name="jaxser",
        storage=JournalStorage(JournalFileBackend(str(file), _Held(str(file)))),
        pruner=optuna.pruners.HyperbandPruner(
            min_resource=config.search.min_epochs,
            max_resource=config.training.epochs,
            reduction_factor=config.search.reduction,
        ),
        direction="minimize",
        load_if_exists=True,
    )
    asked = to_mapping(config)
    del asked["out"], asked["search"]["out"], asked["search"]["trials"]
    if study.user_attrs.get("config", asked) != asked:
        raise UsageError(
            f"{config.search.out} holds a search over another config; give another --search.out, "
            "or that search's own config to go on with it."
        )
    if "config" not in study.user_attrs:
        study.set_user_attr("config", asked)
    return study


class _Held(JournalFileSymlinkLock):
    """No lock of Optuna's, which a killed process leaves behind: the folder is held."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _mend(file: Path) -> None:
    """Drop the half line that a killed process or a full disk has left."""
    if file.exists():
        lines = file.read_bytes()
        whole = lines.rfind(b"\n") + 1
        if whole < len(lines):
            with file.open("r+b") as journal:
                journal.truncate(whole)


def _sampler(config: TuneConfig, *number: int) -> optuna.samplers.BaseSampler:
    """One that draws the same whenever it is asked for this number (and value) of the search."""
    seed = np.random.SeedSequence((config.seed, *number)).generate_state(1)[0]
    return optuna.samplers.TPESampler(seed=int(seed))


def _propose_the_next(config: TuneConfig, study: optuna.Study) -> None:
    """Where all values can be tried, the next trial gets the first that none has tried."""
    names = _searched(config)
    choices = [dict.fromkeys(getattr(config.search, name)) for name in names]
    states = {trial.state for trial in study.trials}
    # One that waits was proposed by a process that was killed.
    if math.prod(map(len, choices)) > config.search.trials or TrialState.WAITING in states:
        return
    tried = [tuple(trial.params[n] for n in names) for trial in study.trials if _ended(trial)]
    for values in itertools.product(*choices):
        if values not in tried:
            study.enqueue_trial(dict(zip(names, values, strict=True)))
            return


def _ended(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _run(config: TuneConfig, trial: optuna.Trial) -> float:
    """Validation loss of the best epoch, as the mean over the trainings of the trial."""
    search = config.search
    values = {}
    for place, name in enumerate(_searched(config)):
        # Those that a killed process has drawn are kept: the others must come out the same.
        trial.study.sampler = _sampler(config, trial.number, place)
        values[name] = trial.suggest_categorical(name, getattr(search, name))

    def watch(history: Sequence[Mapping[str, float]]) -> None:
        if "val_loss" not in history[-1]:
            raise UsageError(
                f"the split {config.corpus.split} has no validation part to search by; take "
                "another one."
            )
        best = min(figures["val_loss"] for figures in history)
        if _falls_behind(trial, best, step=len(history)):
            raise optuna.TrialPruned

    out = search.out / f"trial-{trial.number:04d}"
    losses = []
    for execution in range(search.executions):
        # Only one can be told from epoch to epoch where the others are; it says for all.
        watched = watch if execution == 0 else None
        outcome = train_victim(trial_config(config, values, out, execution), watched)
        if not outcome.finished:
            raise Stopped(outcome.signal)
        losses.append(float(outcome.results["val"]["loss"]))
    return float(np.mean(losses))


def _falls_behind(trial: optuna.Trial, best: float, step: int) -> bool:
    """Report the best loss so far, and ask the pruner; again with the same answer."""
    storage, number = trial.study._storage, trial._trial_id
    if step not in storage.get_trial(number).intermediate_values:
        trial.report(best, step)
    # The pruner notes what a trial had at each rung, and asks of no rung twice. A process may have
    # been killed after such a note, before its answer had any effect: without the notes that have
    # this very value, those rungs are asked once more.
    frozen = copy.copy(storage.get_trial(number))
    frozen.system_attrs = {
        name: value
        for name, value in frozen.system_attrs.items()
        if not (name.startswith("completed_rung_") and value == best)
    }
    return trial.study.pruner.prune(trial.study, frozen)


def format_study(study: optuna.Study, config: TuneConfig) -> str:
    """The finished trials, best first, and the flags of the best."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    lines = [f"{len(finished)} trials finished, {pruned} stopped early, in {config.search.out}"]
    if not finished:
        return lines[0]
    names = list(finished[0].params)
    lines.append(f"{'trial':>5} {'val loss':>9}  " + "  ".join(f"{name:>13}" for name in names))
    ranked = sorted(finished, key=lambda trial: trial.value or 0.0)
    for trial in ranked[:10]:
        cells = "  ".join(f"{trial.params[name]:>13g}" for name in names)
        lines.append(f"{trial.number:5d} {trial.value:9.4f}  {cells}")
    best = ranked[0].params
    flags = [f"--model.{name} {best[name]:g}" for name in _MODEL if name in best]
    flags += [f"--training.{name} {best[name]:g}" for name in _TRAINING if name in best]
    lines.append(f"train the best with {' '.join(flags)}")
    return "\n".join(lines)
