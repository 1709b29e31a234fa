"""``python -m jaxser.sweep``: grids, rows, transfer, failures, and going on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
import yaml
from tiny_networks import use_tiny_networks
from untrained_run import make_run, make_tiny_run

import jaxser
from jaxser import attack, sweep
from jaxser.config.sweep import cells, grid_of, load_sweep
from jaxser.config.sweep_flags import parse_sweep
from jaxser.driver.run import predict
from jaxser.experiments import sweep as sweep_run
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import InputError, UsageError, report_errors
from jaxser.runtime.locks import held
from jaxser.runtime.sharding import WHOLE

TEST_ROWS = 6
EPSILONS = [0.001, 0.05]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def victim(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose network compiles at once; other processes cannot load it."""
    use_tiny_networks(monkeypatch)
    return made


def sweep_file(path: Path, runs: list[Path], **changes: Any) -> Path:
    content = {
        "out": str(path.parent / "rows"),
        "victims": [str(each) for each in runs],
        "attacks": ["fgsm"],
        "epsilon": EPSILONS,
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def plain(folder: Path) -> list[dict[str, Any]]:
    """Rows in an order of their own, without what depends on the clock."""
    clock = ("seconds", "compile_seconds", "compile_count")
    rows = [
        {name: value for name, value in row.items() if name not in clock}
        for row in read_rows(folder).to_pylist()
    ]
    return sorted(
        rows, key=lambda r: (r["threat"], r["victim"], r["attack"], r["epsilon"], r["utterance"])
    )


@pytest.mark.parametrize(
    ("grid", "values"),
    [
        ([0.3, 0.1], (0.3, 0.1)),
        ({"linspace": [0, 1, 5]}, (0.0, 0.25, 0.5, 0.75, 1.0)),
        ({"logspace": [0.001, 1, 4]}, (0.001, 0.01, 0.1, 1.0)),
        ({"linspace": [40, 10, 4]}, (40.0, 30.0, 20.0, 10.0)),
    ],
)
def test_grids_of_epsilon(grid: Any, values: tuple[float, ...]) -> None:
    assert grid_of(grid, "here") == values


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"geomspace": [1, 2, 3]}, "did you mean 'linspace'|did you mean 'logspace'|valid names"),
        ({"linspace": [1, 2]}, "first, last, count"),
        ({"logspace": [1, 2, 1]}, "count of 2 at least"),
        ({"logspace": [0, 2, 3]}, "over 0"),
        ({"linspace": [0, 1, 2], "logspace": [1, 2, 2]}, "one of them"),
    ],
)
def test_grids_that_are_none(grid: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid_of(grid, "here")


def test_the_demo_is_a_sweep() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "sweeps" / "demo.yaml"
    (first, *rest) = cells(load_sweep(path))
    assert len(rest) == 2
    assert len(first.config.epsilon) == 4
    assert first.config.epsilon[-1] == 0.005


def test_all_of_a_grid(victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attacks = ["fgsm", {"name": "slow", "attack": "pgd", "parameters": {"steps": 2}}]
    path = sweep_file(tmp_path / "s.yaml", [victim], attacks=attacks, seeds=[0, 7])
    assert sweep.main([str(path), "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "4 streams, 48 rows" in text
    assert not (tmp_path / "rows").exists()

    assert sweep.main([str(path)]) == 0
    assert "48 rows in" in capsys.readouterr().out
    rows = read_rows(tmp_path / "rows").to_pylist()
    counted = {(r["attack"], r["seed"], r["epsilon"], r["utterance"]) for r in rows}
    assert len(counted) == len(rows) == 2 * 2 * 2 * TEST_ROWS
    assert all(row["threat"] == row["victim"] for row in rows)
    assert [each["state"] for each in json.loads((tmp_path / "rows/sweep.json").read_text())] == [
        "done"
    ] * 4
    # More of the same: only what is new is made.
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "rows").rglob("*.parquet")}
    sweep_file(path, [victim], attacks=attacks, seeds=[0, 7], epsilon=[*EPSILONS, 0.2])
    assert sweep.main([str(path), "--dry_run"]) == 0
    assert "24 rows" in capsys.readouterr().out
    assert sweep.main([str(path)]) == 0
    assert len(read_rows(tmp_path / "rows")) == 72
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_large_tables_are_left_to_the_report(
    victim: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = sweep_file(tmp_path / "s.yaml", [victim])
    for most in (12, 11):
        monkeypatch.setattr(sweep_run, "_TABLE_ROWS", most)
        assert sweep.main([str(path)]) == 0
        text = capsys.readouterr().out
        assert ("robust acc" in text) == (most == 12)
        assert ("12 rows; python -m jaxser.report" in text) == (most == 11)


def test_other_victims_hear_what_was_made(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row is what the victim says of the WAV file; the attack's passes are counted once."""
    other, waves = tmp_path / "other" / "run", tmp_path / "waves"
    shutil.copytree(victim.parent, other.parent)
    path = sweep_file(tmp_path / "s.yaml", [victim, other], transfer=True, y="prediction", limit=4)
    retrain(other)
    noisy = yaml.safe_load((other / "config.yaml").read_text())
    noisy["training"]["noise"] = 0.5
    (other / "config.yaml").write_text(yaml.safe_dump(noisy))
    assert sweep.main([str(path)]) == 0
    rows = read_rows(tmp_path / "rows").to_pylist()
    assert len(rows) == 2 * 2 * 2 * 4
    # Each row tells of who heard it, and not of whom it was made for.
    told = {(str(other) in row["victim"], row["defence"]) for row in rows}
    assert told == {(True, "trained with noise of σ 0.5"), (False, None)}
    assert "run: trained with noise of σ 0.5\n" in capsys.readouterr().out
    argv = ["--victim", str(victim), "--attack", "fgsm", "--y", "prediction", "--limit", "4"]
    argv += ["--epsilon", *map(str, EPSILONS), "--save_wav", "--out", str(waves)]
    assert attack.main(argv) == 0
    heard = [r for r in rows if r["threat"] != r["victim"] and str(victim) in r["threat"]]
    assert len(heard) == 8
    listener = jaxser.load_victim(other)
    for row in heard:
        assert str(other) in row["victim"]
        assert row["queries"] == row["gradients"] == row["seconds"] == 0
        file = waves / "wav" / f"epsilon-{row['epsilon']:g}" / f"{row['utterance']}.wav"
        clean = victim.parent / "speech" / f"{row['utterance']}.wav"
        x_adv, x = (soundfile.read(each, dtype="float32")[0][None] for each in (file, clean))
        assert row["prediction"] == listener.labels[predict(listener, x_adv)[0]]
        assert row["clean_prediction"] == listener.labels[predict(listener, x)[0]]
        assert row["success"] == (row["prediction"] != row["clean_prediction"])
        assert row["linf"] == pytest.approx(np.abs(x_adv - x).max(), rel=1e-3)


def retrain(run: Path) -> None:
    """Give a copied run other weights."""
    import jax

    from jaxser.runtime.checkpoint import Checkpoints

    variables = jaxser.load_victim(run).variables
    shutil.rmtree(run / "checkpoints")
    checkpoints = Checkpoints(run / "checkpoints")
    turned = jax.tree.map(lambda a: np.abs(a) if a.ndim < 2 else -np.asarray(a), variables)
    checkpoints.save_best(1, turned)
    checkpoints.close()


def test_what_fails_is_noted_and_the_rest_goes_on(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only the speech tells that it is no square.
    square = {"compat": "torchattacks"}
    bad = {"name": "cannot", "attack": "pixle", "parameters": square, "epsilon": [100]}
    path = sweep_file(tmp_path / "s.yaml", [victim], attacks=[bad, "fgsm"], epsilon=[0.1])
    assert report_errors(lambda: sweep.main([str(path)])) == 1
    captured = capsys.readouterr()
    assert "failed: cannot on" in captured.err
    assert "square inputs only" in captured.err
    assert len(read_rows(tmp_path / "rows")) == TEST_ROWS
    noted = json.loads((tmp_path / "rows/sweep.json").read_text())
    assert [each["state"] for each in noted] == ["failed", "done"]
    assert "square inputs only" in noted[0]["reason"]


def test_budgets_that_fit_no_attack_are_refused_before_it_begins(
    victim: Path, tmp_path: Path
) -> None:
    bad = {"name": "cannot", "attack": "pgd", "parameters": {"norm": "l2"}}
    path = sweep_file(
        tmp_path / "s.yaml", [victim], attacks=["fgsm", bad], epsilon=[20], epsilon_unit="snr_peak"
    )
    with pytest.raises(UsageError, match=r"^cannot: a peak SNR does not bound"):
        sweep.main([str(path)])
    assert not list((tmp_path / "rows").glob("rows-*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attacks": ["pdg"]}, "did you mean 'pgd'"),
        ({"attacks": []}, "must say attacks"),
        ({"attacks": ["fgsm", "fgsm"]}, "two attacks named fgsm"),
        ({"attacks": [{"attack": "pgd", "parameters": {"stepps": 1}}]}, "did you mean 'steps'"),
        ({"victims": ["nowhere"]}, "nowhere is not a run folder"),
        ({"epsilon": []}, "fgsm has no epsilon"),
        ({"epsilon": {"linspace": [0, 1]}}, "first, last, count"),
        ({"epsilons": [0.1]}, "did you mean 'epsilon'"),
        ({"seeds": []}, "seeds"),
        ({"limit": 0}, "limit"),
        ({"transfer": True, "domain": "features"}, "leave it out with domain features"),
        (
            {"transfer": True, "smoothing": 0.1},
            "by victims without noise; leave it out with smooth",
        ),
        ({"smoothing": 0}, "smoothing"),
        ({"transfer": True, "output": "probabilities"}, "from logits; leave it out with output"),
        ({"attacks": [{"attack": "jsma", "epsilon": [0.05]}]}, "jsma: epsilon 0.05 allows no chan"),
        ({"smoothing": 0.1, "smoothing_samples": 0}, "smoothing_samples"),
    ],
)
def test_mistakes_are_one_sentence(
    victim: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    words: str,
) -> None:
    path = sweep_file(tmp_path / "s.yaml", [victim], **changes)
    assert report_errors(lambda: sweep.main([str(path)])) in (1, 2)
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "rows").exists()


def test_smoothed_victims_are_swept(victim: Path, tmp_path: Path) -> None:
    """By the file or by the flags; beside the plain victim's rows in one folder."""
    path = sweep_file(tmp_path / "s.yaml", [victim], attacks=["fgsm"], limit=2)
    flags = ["--smoothing", "0.2", "--smoothing_samples", "3"]
    assert sweep.main([str(path)]) == sweep.main([str(path), *flags]) == 0
    rows = read_rows(tmp_path / "rows").to_pylist()
    smoothed = [row for row in rows if row["smoothing"] == 0.2]
    assert len(rows) == 2 * len(smoothed) == 2 * 2 * len(EPSILONS)
    assert {row["smoothing_samples"] for row in smoothed} == {3}
    assert len({(row["victim"], row["victim_fingerprint"]) for row in rows}) == 2
    asked = {"smoothing": 0.2, "smoothing_samples": 3}
    (cell,) = cells(load_sweep(path, asked))
    assert (cell.config.smoothing, cell.config.smoothing_samples) == (0.2, 3)


@pytest.mark.parametrize("flag", ["limit", "draws"])
def test_nothing_is_none_by_the_flag_too(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    path = sweep_file(tmp_path / "s.yaml", [victim])
    assert report_errors(lambda: sweep.main([str(path), f"--{flag}", "0"])) == 2
    assert flag in capsys.readouterr().err
    changes = parse_sweep([str(path), f"--{flag}", "3"]).changes()
    assert {getattr(cell.config, flag) for cell in cells(load_sweep(path, changes))} == {3}


def test_a_folder_in_use_is_left_alone(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(tmp_path / "s.yaml", [victim])
    with held(tmp_path / "rows", "swept"):
        assert report_errors(lambda: sweep.main([str(path)])) == 1
    assert "is being swept by another process" in capsys.readouterr().err


@pytest.mark.long
def test_a_killed_sweep_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL while rows are being made of the first and of the second stream."""
    victim = make_run(tmp_path)
    attacks = ["fgsm", {"name": "slow", "attack": "pgd", "parameters": {"steps": 100}}, "noise"]
    whole = sweep_file(tmp_path / "whole.yaml", [victim], attacks=attacks)
    assert sweep.main([str(whole), "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "jaxser.sweep", str(whole), "--out", str(out)]
    for stream in (1, 2):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(f"{stream} of 3"):
                    break
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    np.testing.assert_equal(plain(out), plain(tmp_path / "whole"))  # NaN equals NaN here
    assert len(plain(out)) == 3 * 2 * TEST_ROWS


def test_without_a_device_no_cell_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend() -> None:
        raise AssertionError

    (tmp_path / "sweep.yaml").write_text(
        f"out: {tmp_path / 'out'}\nvictims: [{tmp_path}]\nattacks: [fgsm]\nepsilon: [0.1]\n"
    )
    monkeypatch.setattr(jax, "devices", no_backend)
    with pytest.raises(InputError, match="JAX cannot start"):
        sweep_run.run_sweep(load_sweep(tmp_path / "sweep.yaml"), WHOLE)
