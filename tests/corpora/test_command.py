"""``python -m jaxser.corpora``: output, exit status, errors without a traceback."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import miniature
import pytest
from processor_time import processor_seconds

from jaxser import corpora
from jaxser.config import CorpusConfig
from jaxser.corpora.__main__ import main
from jaxser.corpora.selection import select


def test_list_names_every_corpus(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(corpora.names())
    assert "535" in lines[1]
    assert "CC BY-NC-SA 4.0" in lines[3]


def test_list_one_corpus(capsys):
    assert main(["list", "iemocap"]) == 0
    out = capsys.readouterr().out
    assert "train Session1 Session2 Session5; val Session4; test Session3" in out
    assert "https://sail.usc.edu/iemocap/" in out


def test_check_prints_text_or_json(tmp_path, capsys):
    root = miniature.emodb(tmp_path)
    assert main(["check", "emodb", str(root)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith("EmoDB, first 0.1 s is not as it should be: ")
    assert main(["check", "emodb", str(root), "--json", "--workers", "1"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["utterances"] == 28
    (root / "table.csv").write_text("file,label\nwav/03a01Wa.wav,x\nwav/03a01Ta.wav,y\n")
    assert main(["check", "csv", str(root)]) == 0


def test_prepare_reports_what_it_left_out(tmp_path, capsys):
    root = miniature.emodb(tmp_path / "emodb")
    (root / "wav" / "03a01Wa.wav").write_text("text")
    arguments = ["prepare", "emodb", str(root), "--cache-dir", str(tmp_path / "cache"),
                 "--seconds", "0.1"]  # fmt: skip
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    head, line = captured.err.splitlines()
    assert head.startswith("error: 1 of 28 files of EmoDB are damaged")
    assert line.strip().startswith(str(root / "wav" / "03a01Wa.wav"))
    assert main([*arguments, "--skip-damaged"]) == 0
    out = capsys.readouterr().out
    assert "27 utterances of 1,600 samples" in out
    assert "left out: wav/03a01Wa: it cannot be decoded as audio" in out


def test_prepare_makes_what_a_training_config_reads(tmp_path, capsys):
    """Chunks, augmented, of the labels kept: the training finds it, and makes nothing anew."""
    root = miniature.emodb(tmp_path / "emodb", codes="LFE", frames=4_000)
    labels = ["boredom", "disgust"]  # L and E
    arguments = ["prepare", "emodb", str(root), "--cache_dir", str(tmp_path / "cache")]
    arguments += ["--seconds", "0.2", "--channel", "mean", "--chunks", "--labels", *labels]
    assert main([*arguments, "--augment", "--protocol", "paper"]) == 0
    out = capsys.readouterr().out
    counts = re.search(r"protocol paper: train (\d+) \((\d+) augmented\), val (\d+)", out)
    assert counts is not None
    config = CorpusConfig(
        name="emodb", root=root, labels=tuple(labels), chunks=True, augment=True, seconds=0.2,
        channel="mean", protocol="paper", cache_dir=tmp_path / "cache",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxser.corpora.preparation._writer", None)  # finds, and makes nothing
        prepared = select(config)
    assert f"fingerprint: {prepared.fingerprint}" in out
    parts = [u.split for u in prepared.corpus.utterances]
    assert [parts.count("train"), parts.count("val")] == [int(counts[1]), int(counts[3])]
    (leaks,) = (note for note in prepared.corpus.notes if note.startswith("leaky protocol"))
    assert f"note: {leaks}" in out
    assert main([*arguments, "--protocol", "clean"]) == 0
    assert "augmented" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["prepare", "emodb", "/absent", "--augment"], 2, "corpus.augment adds versions of chunks"),
        (["check", "emodbb", "."], 2, "did you mean 'emodb'?"),
        (["check", "emodb", "/absent"], 1, "there is no folder /absent"),
        (["download", "iemocap", "x"], 1, "restricted"),
        (["download", "emovo"], 1, "ask for it at http"),
        (["download", "ravdess"], 2, "download ravdess ROOT"),
        (["prepare", "emodb", "/absent", "--seconds", "0"], 1, "is no length for a waveform"),
        (["prepare", "emodb", "/absent", "--seconds", "1e9"], 1, "more than any utterance has"),
        (["prepare", "emodb", "/absent", "--sample_rate", "1000000"], 1, "up to 600 s and 768,000"),
    ],
)
def test_user_errors_are_one_line(capsys, arguments, status, message):
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "emodb"], ["chek", "emodb", "."]])
def test_a_wrong_command_line_is_one_line_and_has_status_2(capsys, arguments):
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "jaxser.corpora", *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_help_answers_at_once_and_imports_nothing_heavy():
    start = processor_seconds()
    result = run("check", "--help")
    assert processor_seconds() - start < 1.5
    assert result.returncode == 0
    assert "--json" in result.stdout
    code = (
        "import sys, jaxser.corpora.__main__\n"
        "print({'numpy', 'jax', 'soundfile', 'scipy', 'tqdm'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert loaded.stdout.strip() == "set()"


def test_a_reader_that_stops_early_gets_no_traceback(tmp_path):
    miniature.emodb(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "jaxser.corpora", "check", "emodb", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert result.returncode == 1
    assert result.stderr == ""
