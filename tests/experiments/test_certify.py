"""``python -m jaxser.certify``: certificates, going on, the empirical curve, and its mistakes."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from scipy import stats
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser import attack, certify, load_victim, report
from jaxser.driver.noise_counts import noise_votes
from jaxser.experiments import certify as experiment
from jaxser.results.certificates import CERTIFICATES, KIND, read_certificates
from jaxser.results.reading import read_rows, read_sources
from jaxser.results.smoothing_bounds import certified_radius, lower_bound
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import InputError, report_errors

TEST_ROWS = 6
# So much noise that the tiny victim's answers differ.
FLAGS = ("--sigma", "0.3", "--samples0", "10", "--samples", "90", "--alpha", "0.05")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("certify"))


@pytest.fixture
def victim(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_networks(monkeypatch)
    return made


def run(command: Any, capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str, str]:
    status = report_errors(lambda: command.main([str(each) for each in argv]))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    rows = read_certificates(folder).to_pylist()
    return [{name: v for name, v in row.items() if name != "seconds"} for row in rows]


def test_certificates_are_what_the_draws_prove(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, err = run(certify, capsys, "--victim", victim, *FLAGS, "--out", tmp_path / "c")
    assert status == 0, err
    assert "600/600" in err
    rows = read_certificates(tmp_path / "c").to_pylist()
    assert len(rows) == TEST_ROWS
    loaded = load_victim(victim)
    x = np.stack(
        [
            soundfile.read(victim.parent / "speech" / f"{row['utterance']}.wav", dtype="float32")[0]
            for row in rows
        ]
    )
    expected = noise_votes(
        loaded, x, sigma=0.3, selection=10, samples=90, ids=[row["utterance"] for row in rows]
    )
    for row, votes in zip(rows, expected, strict=True):
        assert row["counts"] == votes.counts.tolist()
        assert row["selection_counts"] == votes.selection.tolist()
        assert row["classes"] == list(loaded.labels)
        chosen = int(votes.selection.argmax())
        p_lower = float(lower_bound(row["counts"][chosen], 90, 0.05))
        assert row["p_lower"] == pytest.approx(p_lower)
        np.testing.assert_allclose(row["radius"], certified_radius(0.3, p_lower))
        assert row["certified"] == (loaded.labels[chosen] if p_lower > 0.5 else None)
        norm = np.linalg.norm(x[rows.index(row)])
        assert row["input_norm"] == pytest.approx(norm, rel=1e-6)
        if p_lower > 0.5:
            assert row["radius_snr"] == pytest.approx(20 * np.log10(norm / row["radius"]))
        assert (row["sigma"], row["passes"], row["alpha"]) == (0.3, 100, 0.05)
    assert any(row["certified"] for row in rows)

    # What is printed is of these rows.
    right = [row for row in rows if row["certified"] == row["label"]]
    line = next(line for line in text.splitlines() if line.split()[:1] == ["0"])
    assert f"{len(right) / TEST_ROWS:.1%} (" in line
    assert "note: made for a test" in text
    assert "says nothing of the victim without noise" in text
    assert "with a probability of at least 0.95" in text
    furthest = 0.3 * stats.norm.ppf(0.05 ** (1 / 90))
    assert f"no radius over {furthest:.4g} can be certified with 90 draws" in text
    assert "not clipped" in text
    assert (tmp_path / "c" / "certified.png").stat().st_size > 5_000
    with (tmp_path / "c" / "certified.csv").open() as file:
        points = list(csv.DictReader(file))
    assert {each["curve"] for each in points} == {"certified"}
    for each in points:
        share = sum(row["radius"] >= float(each["l2"]) for row in right) / TEST_ROWS
        assert float(each["accuracy"]) == pytest.approx(share, abs=1e-5)

    # Again: nothing is left to do. Another folder, and noise by the seed.
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    status, text, _ = run(certify, capsys, "--victim", victim, *FLAGS, "--out", tmp_path / "c")
    assert "all 6 certificates were there already" in text
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == files
    status, _, err = run(certify, capsys, "--victim", victim, *FLAGS, "--seed", 1)
    assert status == 0, err
    (folder,) = (victim / "certificates").iterdir()
    assert rows_of(folder) != rows_of(tmp_path / "c")


def test_a_run_that_was_stopped_goes_on_to_the_same(
    victim: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = ("--victim", victim, *FLAGS, "--batch_size", 16)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(certify, capsys, *argv, "--out", whole)[0] == 0

    def dies(*arguments: Any, **options: Any) -> Iterator[Any]:
        for count, each in enumerate(noise_votes(*arguments, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield each

    with monkeypatch.context() as patched:
        patched.setattr(experiment, "noise_votes", dies)
        status, _, err = run(certify, capsys, *argv, "--out", stopped)
    assert status == 130
    assert f"2 certificates are kept in {stopped}; the same command goes on from there" in err
    kept = {p: p.stat().st_mtime_ns for p in stopped.glob("*.parquet")}
    assert len(kept) == 1
    status, text, _ = run(certify, capsys, *argv, "--out", stopped)
    assert status == 0
    assert "400 passes" in text
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert rows_of(stopped) == rows_of(whole)


@pytest.fixture(scope="module")
def attacks(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of an L2 attack on the plain and on the smoothed victim, and some that say L0."""
    out = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patched:
        use_tiny_networks(patched)
        common = ["--victim", str(made), "--epsilon"]
        l2 = [*common, "0.1", "2", "--params", "steps=1", "norm=l2"]
        noise = ["--smoothing", "0.3", "--smoothing_samples", "4"]
        assert attack.main(["--attack", "pgd", *l2, "--out", str(out / "l2" / "plain")]) == 0
        assert attack.main(["--attack", "pgd", *l2, *noise, "--out", str(out / "l2/noise")]) == 0
    rows = read_rows(out / "l2" / "plain").to_pydict()
    with RowWriter(out / "l0", read_sources(out / "l2" / "plain")[0]) as writer:
        writer.add({**rows, "epsilon_norm": ["l0"] * len(rows["epsilon"])})
    return out


def test_smoothed_rows_are_never_taken_for_plain_ones(
    victim: Path, attacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, noise = (read_rows(attacks / "l2" / name).to_pylist() for name in ("plain", "noise"))
    assert len(plain) == len(noise) == 2 * TEST_ROWS
    assert all(np.isnan(row["smoothing"]) and row["smoothing_samples"] is None for row in plain)
    assert all((row["smoothing"], row["smoothing_samples"]) == (0.3, 4) for row in noise)
    assert {row["victim"] for row in noise} == {plain[0]["victim"].replace(" ", "[σ=0.3,n=4] ", 1)}
    assert {row["victim_fingerprint"] for row in noise}.isdisjoint(
        row["victim_fingerprint"] for row in plain
    )
    assert all("randomised victim" in row["flags"] for row in noise)
    # The folder of the one is refused for the other.
    out = attacks / "l2" / "plain"
    argv = ("--victim", victim, "--attack", "pgd", "--params", "steps=1", "norm=l2", "--epsilon", 3)
    status, _, err = run(attack, capsys, *argv, "--smoothing", 0.3, "--out", out)
    assert status == 2
    assert "holds rows with victim_fingerprint" in err


def test_the_empirical_curve_and_the_report(
    victim: Path, attacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--victim", victim, *FLAGS, "--out", tmp_path / "c", "--limit", 5)
    status, text, err = run(certify, capsys, *argv, "--rows", attacks)
    assert status == 0, err
    assert "pgd, victim without noise: rows of 5 of 5 utterances" in text
    with (tmp_path / "c" / "certified.csv").open() as file:
        points = list(csv.DictReader(file))
    curves = {each["curve"] for each in points}
    assert curves == {
        *("certified", "pgd, victim without noise"),
        "pgd, victim smoothed, σ 0.3, 4 draws",
    }
    ids = {row["utterance"] for row in rows_of(tmp_path / "c")}
    for name, folder in (("without noise", "plain"), ("smoothed, σ 0.3, 4 draws", "noise")):
        rows = [r for r in read_rows(attacks / "l2" / folder).to_pylist() if r["utterance"] in ids]
        line = [each for each in points if each["curve"] == f"pgd, victim {name}"]
        assert [float(each["l2"]) for each in line] == [0, 0.1, 2]
        for each, column, epsilon in zip(
            line, ("clean_prediction", "prediction", "prediction"), (0.1, 0.1, 2), strict=True
        ):
            own = [row for row in rows if row["epsilon"] == epsilon]
            right = sum(row[column] == row["label"] for row in own) / len(own)
            assert float(each["accuracy"]) == pytest.approx(right)

    # Certificates alone, and beside rows.
    page = tmp_path / "page.html"
    both = (attacks / "l2", tmp_path / "c")
    for folders in ((tmp_path / "c",), both):
        status, _, err = run(report, capsys, *folders, "--out", page, "--csv", tmp_path / "t")
        assert status == 0, err
        assert page.read_text().count("<h3>Certified accuracy, by L2 radius") == 1
        with (tmp_path / "t" / "certified.csv").open() as file:
            table = list(csv.DictReader(file))
        assert [line["utterances"] for line in table] == ["5"]
        assert table[0]["sigma"] == "0.3"
        assert "says nothing of the victim without noise" in page.read_text()
    assert "[σ=0.3,n=4]" in page.read_text()
    (curve,) = re.findall(r'aria-label="(Certified accuracy over[^"]*)"', page.read_text())
    assert "pgd, victim without noise: 5 of 5 utterances" in curve


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--sigma", "0"], "sigma"),
        (["--sigma", "-0.1"], "sigma"),
        (["--sigma", "inf"], "sigma"),
        (["--samples", "0"], "samples"),
        (["--samples0", "0"], "samples0"),
        (["--alpha", "0"], "alpha"),
        (["--alpha", "1"], "alpha"),
        (["--domain", "features"], "features"),
        (["--rows", "nowhere"], "nowhere holds no rows-*.parquet"),
        (["--limit", "0"], "limit"),
    ],
)
def test_mistakes_are_one_sentence(
    victim: Path, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(certify, capsys, "--victim", victim, *flags)
    assert status == (1 if flags[0] == "--rows" else 2)
    assert all(line.endswith(" ...") for line in out.splitlines())
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_rows_that_are_no_empirical_curve(
    victim: Path, attacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--victim", victim, *FLAGS, "--rows", attacks / "l0", "--out", tmp_path)
    status, _, err = run(certify, capsys, *argv)
    assert status == 2
    assert "bound perturbations by l0, and a certificate is of their L2 norm" in err
    table = read_rows(attacks / "l2")
    facts = {**table.slice(0, 1).to_pylist()[0], "sigma": 0.3}
    check = experiment.check_rows
    with pytest.raises(InputError, match="none is of emo18 other as it is now"):
        check(attacks, {**facts, "victim": "emo18 other", "victim_fingerprint": "f"})
    with pytest.raises(InputError, match="of the waveform, and the certificate is of the image"):
        check(attacks, {**facts, "domain": "image"})
    with pytest.raises(InputError, match="of the test part, and the certificate is of the val"):
        check(attacks, {**facts, "split": "val"})
    # Before any pass is spent.
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_folder_of_other_certificates_and_a_damaged_one(
    victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--victim", victim, *FLAGS, "--limit", 2, "--out", tmp_path)
    assert run(certify, capsys, *argv)[0] == 0
    status, _, err = run(certify, capsys, *argv, "--sigma", 0.1)
    assert status == 2
    assert "holds certificates with sigma 0.3, not 0.1; give another --out" in err
    (path,) = tmp_path.glob(f"{KIND}-*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + b"x" + whole[-29:])
    status, _, err = run(certify, capsys, *argv)
    assert status == 1
    assert "is not a file of certificates (it has changed since it was written); delete it" in err
    path.unlink()
    table = CERTIFICATES.empty_table().drop_columns(["radius"])
    pq.write_table(table, tmp_path / f"{KIND}-1.parquet")
    with pytest.raises(InputError, match="its columns are others"):
        read_certificates(tmp_path)
    with pytest.raises(InputError, match="holds no certificates"):
        read_certificates(tmp_path / "nowhere")


def test_smoothing_of_an_attack_needs_a_domain_and_noise(
    victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, sentence in (
        (["--smoothing", "0.1", "--domain", "features"], "features"),
        (["--smoothing", "0"], "smoothing"),
        (["--smoothing", "0.1", "--smoothing_samples", "0"], "smoothing_samples"),
    ):
        status, _, err = run(attack, capsys, "--victim", victim, *flags)
        assert status == 2
        assert err.count("\n") == 1
        assert sentence in err
