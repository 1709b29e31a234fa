"""The search of hyper-parameters: trials, their config, and the table that ends it.

    study = search(TuneConfig())
    print(format_study(study, config))

Optuna's sampler proposes and its Hyperband pruner stops trials that fall behind. What was tried
lies in the folder of the search, which goes on from there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from jaxser.config import TrainConfig, to_mapping
from jaxser.config.tune import TuneConfig
from jaxser.runtime.errors import UsageError
from jaxser.training.run import train_victim

__all__ = ["format_study", "search", "trial_config"]


def search(config: TuneConfig) -> optuna.Study:
    """Run the trials that are missing of those asked for.

    Raises:
      UsageError: the folder holds another search; the split has no validation part.
      KeyboardInterrupt: a trial was stopped.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(config)
    left = config.search.trials - sum(_ended(trial) for trial in study.trials)
    if left > 0:
        study.optimize(lambda trial: _run(config, trial), n_trials=left)
    return study


def trial_config(config: TuneConfig, values: Mapping[str, Any], out: Path) -> TrainConfig:
    """The training run of one trial."""
    return TrainConfig(
        out=out,
        seed=config.seed,
        corpus=config.corpus,
        features=config.features,
        model=dataclasses.replace(
            config.model, dropout=values["dropout"], lstm_dropout=values["lstm_dropout"]
        ),
        training=dataclasses.replace(
            config.training,
            learning_rate=values["learning_rate"],
            batch_size=values["batch_size"],
        ),
    )


def _study(config: TuneConfig) -> optuna.Study:
    """The search in the folder, or a new one there."""
    config.search.out.mkdir(parents=True, exist_ok=True)
    file = config.search.out / "study.jsonl"
    study = optuna.create_study(
        study_name="jaxser",
        storage=JournalStorage(JournalFileBackend(str(file))),
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
    if study.user_attrs.setdefault("config", asked) != asked:
        raise UsageError(
            f"{config.search.out} holds a search over another config; give another --search.out, "
            "or that search's own config to go on with it."
        )
    study.set_user_attr("config", asked)
    # A search that goes on must not draw what it drew before.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    return study


def _ended(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state.is_finished() and trial.state.name != "FAIL"


def _run(config: TuneConfig, trial: optuna.Trial) -> float:
    """Validation loss of the best epoch."""
    search = config.search
    values = {
        name: trial.suggest_categorical(name, getattr(search, name))
        for name in ("learning_rate", "batch_size", "dropout", "lstm_dropout")
    }

    def watch(history: Sequence[Mapping[str, float]]) -> None:
        if "val_loss" not in history[-1]:
            raise UsageError(
                f"the split {config.corpus.split} has no validation part to search by; take "
                "another one."
            )
        best = min(figures["val_loss"] for figures in history)
        trial.report(best, step=len(history))
        if trial.should_prune():
            raise optuna.TrialPruned

    out = search.out / f"trial-{trial.number:04d}"
    outcome = train_victim(trial_config(config, values, out), watch)
    if not outcome.finished:
        raise KeyboardInterrupt
    return float(outcome.results["val"]["loss"])


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
    lines.append(
        f"train the best with --model.dropout {best['dropout']:g} --model.lstm_dropout "
        f"{best['lstm_dropout']:g} --training.learning_rate {best['learning_rate']:g} "
        f"--training.batch_size {best['batch_size']}"
    )
    return "\n".join(lines)
