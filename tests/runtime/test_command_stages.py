"""A command says in which stage it is from the start, and in the end what each took."""

import re
import sys
import threading

import pytest

from jaxser.runtime.stages import clear, stage, start, took


def test_a_file_gets_a_line_for_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    took()  # what a command that was stopped in another test has left
    stage("of nobody")
    assert took() == ""
    start("loading JAX")
    stage("clean pass")
    stage("attacking", shown=False)
    stage("clean pass")
    other = threading.Thread(target=stage, args=("elsewhere",))
    other.start()
    other.join()
    assert capsys.readouterr().out == "loading JAX ...\nclean pass ...\n"
    pattern = r"took \d+\.\d s: loading JAX 0\.0, clean pass 0\.0, attacking 0\.0"
    assert re.fullmatch(pattern, took())
    assert took() == ""


def test_a_terminal_sees_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    start("loading JAX")
    stage("clean pass")
    clear()
    clear()
    said = capsys.readouterr()
    assert said.err == "loading JAX ...\r\r\x1b[Kclean pass ...\r\r\x1b[K"
    assert said.out == ""
    monkeypatch.setenv("COLUMNS", "12")
    stage("loading the victim")
    assert capsys.readouterr().err == "loading the\r"
    took()
