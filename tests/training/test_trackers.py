"""Services that show a run: what their clients are given, and that they never end a training."""

import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from jaxser.runtime.errors import UsageError
from jaxser.training import trackers
from jaxser.training.writer import RunWriter

FIGURES = {"epoch": 1, "step": 10, "loss": 0.5, "uar": 0.4, "val_loss": 0.6, "val_uar": 0.3}
SHOWN = {"train/loss": 0.5, "train/uar": 0.4, "val/loss": 0.6, "val/uar": 0.3, "test/uar": 0.2}


class Client(types.ModuleType):
    """Remembers its calls; runs by their identity."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self.logged: dict[str, float] = {}
        self.steps: set[float] = set()
        self.begun: list[str] = []
        self.config = types.SimpleNamespace(update=self._update)
        self.settings: dict[str, Any] = {}
        self.fails = False

    def _update(self, settings: dict[str, Any], **_: Any) -> None:
        self.settings.update(settings)

    def init(self, **asked: Any) -> "Client":
        self.begun.append(asked.get("id", asked["name"]))
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append((name, step_metric))

    def log(self, figures: dict[str, float], step: int | None = None) -> None:
        if self.fails:
            raise ConnectionError("no network\nat all")
        figures = dict(figures)
        self.steps.add(figures.pop("updates", step))
        self.logged.update(figures)

    def finish(self) -> None:
        self.calls.append(("finish", None))

    # As MLflow calls the same.
    log_metrics, end_run = log, finish

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def search_runs(self, filter_string: str, output_format: str) -> list[Any]:
        info = [types.SimpleNamespace(run_id=each) for each in self.begun if each in filter_string]
        return [types.SimpleNamespace(info=each) for each in info]

    def start_run(self, run_id: str = "", tags: dict[str, str] | None = None, **_: Any) -> None:
        self.begun.append(run_id or (tags or {})["jaxser_run"])

    def log_params(self, settings: dict[str, Any]) -> None:
        self.settings.update(settings)


@pytest.fixture(params=["wandb", "mlflow", "trackio"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client(request.param)
    made.__spec__ = types.SimpleNamespace(name=request.param)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


def train(folder: Path, kind: Any) -> None:
    (folder / "run.json").write_text("{}")
    with RunWriter(folder, log_to=kind) as writer:
        writer.start(total=20, done=0, step=0)
        writer.advance(10, dict)
        writer.epoch(dict(FIGURES), [dict(FIGURES)], of=1)
        writer.figure("confusion/test", object(), 10)
        writer.scalars("test", {"uar": 0.2, "asr": float("nan")}, 10)
        writer.hyperparameters({"seed": 3, "model": {"name": "emo18", "dropout": None}}, [])


def test_a_service_gets_figures_and_settings(client: Client, tmp_path: Path) -> None:
    train(tmp_path, client.__name__)
    assert client.logged == SHOWN
    assert client.steps == {10}
    assert client.settings == {"seed": 3, "model.name": "emo18"}
    assert client.calls[-1] == ("finish", None)
    assert not (tmp_path / "tensorboard").exists()
    # A run that goes on is the same one there, and another folder's is not.
    train(tmp_path, client.__name__)
    (tmp_path / "other").mkdir()
    train(tmp_path / "other", client.__name__)
    first, again, other = client.begun
    assert first == again != other


def test_a_service_that_fails_ends_no_training(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.fails = True
    with caplog.at_level(logging.WARNING):
        train(tmp_path, client.__name__)
    (record,) = caplog.records
    said = f"{client.__name__} failed (no network at all); the run goes on without it."
    assert record.message == said
    assert (tmp_path / "history.csv").exists()


def test_a_client_that_is_not_here_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'jaxser\[mlflow\]'"):
        RunWriter(tmp_path, log_to="mlflow")
