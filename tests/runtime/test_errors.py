"""What ends a command is one sentence at one place: whatever the operating system refuses, output
that nobody reads, letters that a terminal lacks, devices that are not there."""

import errno
import io
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxser
from jaxser.__main__ import COMMANDS
from jaxser.runtime.compilation import enable_compilation_cache
from jaxser.runtime.errors import report_errors
from jaxser.runtime.files import check_writable, usable_cache, write_text
from jaxser.runtime.text import counted, cut, shown_value, visible

Said = pytest.CaptureFixture[str]


@contextmanager
def changed(option: str, value: object) -> Iterator[None]:
    """An option of JAX, for a while."""
    before = jax.config.values[option]
    jax.config.update(option, value)
    try:
        yield
    finally:
        jax.config.update(option, before)


def refuse(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def sentence(said: Said) -> str:
    """The one line of stderr."""
    captured = said.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.endswith(".\n")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("code", sorted(errno.errorcode), ids=errno.errorcode.__getitem__)
def test_whatever_the_system_refuses_is_one_sentence(code: int, capsys: Said) -> None:
    assert report_errors(refuse(OSError(code, os.strerror(code), "runs/a"))) == 1
    told = sentence(capsys)
    assert "runs/a" in told
    full = code in (errno.ENOSPC, errno.EDQUOT)
    assert ("the disk is full" if full else os.strerror(code)) in told


@pytest.mark.parametrize(
    "error",
    [
        OSError("text of a library\n\nover some lines"),
        OSError(errno.EROFS, "Cannot open '.rows-1.2.parquet'.\nDetail: [errno 30]"),
        io.UnsupportedOperation("not seekable"),
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000),
        OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"),
        OSError(),
        MemoryError("Unable to allocate 64. GiB for an array"),
        UnicodeEncodeError("latin-1", "runs/ε", 5, 6, "ordinal not in range(256)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_so_is_what_libraries_make_of_it(error: Exception, capsys: Said) -> None:
    assert report_errors(refuse(error)) == 1
    assert len(sentence(capsys)) < 500


def test_a_defect_keeps_its_traceback() -> None:
    for error in (ValueError("x"), RuntimeError("x"), AssertionError()):
        with pytest.raises(type(error)):
            report_errors(refuse(error))


def test_a_deleted_working_folder(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert report_errors(lambda: write_text("out/rows.csv", "text")) == 1
    told = sentence(capsys)
    monkeypatch.chdir(tmp_path)
    assert "the working folder was deleted" in told


def test_the_file_is_named_that_could_not_be_written(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "file").touch()
    for name in ("file/results.json", "x" * 300):
        assert report_errors(lambda name=name: write_text(tmp_path / name, "text")) == 1
        assert str(tmp_path / name[:4]) in sentence(capsys)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: Any, **__: Any) -> None:
        raise full

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        assert report_errors(lambda: write_text(tmp_path / "results.json", "text")) == 1
    assert f"the disk is full while writing {tmp_path / 'results.json'};" in sentence(capsys)


@contextmanager
def unread() -> Iterator[None]:
    """stdout as "| head" leaves it when it has seen enough; flushed at the end, as by Python."""
    reader, writer = os.pipe()
    os.close(reader)
    with (
        os.fdopen(writer, "w", encoding="utf-8") as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Not in a fixture: pytest puts its own in place when the test begins.
        patch.setattr(sys, "stdout", stream)
        yield


@pytest.mark.parametrize("lines", [1, 100_000])
def test_nobody_reads_on(capfd: Any, lines: int) -> None:
    with unread():
        assert report_errors(lambda: print("text\n" * lines)) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_reads_on_whatever_the_command(
    name: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"jaxser.{name}", "--help"])
    # A folder that is a command stays imported: others hold what is in it.
    folder = (Path(jaxser.__file__).parent / name).is_dir()
    module = f"jaxser.{name}.__main__" if folder else f"jaxser.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with unread(), pytest.raises(SystemExit):
        runpy.run_module(f"jaxser.{name}", run_name="__main__", alter_sys=True)
    assert capfd.readouterr().err == ""


def test_a_broken_pipe_of_something_else_is_told(capfd: Any) -> None:
    assert report_errors(refuse(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 1
    assert capfd.readouterr().err.startswith("error: Broken pipe; ")


SIGNS = "ε 0.01 – 0.5×, robust → fooled ≥ 3 …, Grün 中 \udcff"


@pytest.mark.parametrize(
    ("encoding", "read"),
    [
        ("utf-8", r"ε 0.01 – 0.5×, robust → fooled ≥ 3 …, Grün 中 \udcff"),
        ("latin-1", r"eps 0.01 - 0.5×, robust -> fooled >= 3 ..., Grün \u4e2d \udcff"),
        ("cp1252", r"eps 0.01 – 0.5×, robust -> fooled >= 3 …, Grün \u4e2d \udcff"),
        ("ascii", r"eps 0.01 - 0.5x, robust -> fooled >= 3 ..., Gr\xfcn \u4e2d \udcff"),
    ],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_any_text_on_any_terminal(
    name: str, encoding: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, name, stream)
    assert report_errors(lambda: print(SIGNS, file=stream, flush=True)) == 0
    assert stream.buffer.getvalue().decode(encoding) == read + "\n"  # type: ignore[attr-defined]


def test_no_device(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend() -> None:
        raise AssertionError

    monkeypatch.setattr(jax, "devices", no_backend)
    with changed("jax_platforms", "cuda"):
        assert report_errors(refuse(AssertionError())) == 1
    assert "JAX cannot start JAX_PLATFORMS=cuda (there is none)" in sentence(capsys)


def test_warnings_of_libraries_are_one_line(capfd: Any) -> None:
    def command() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            sys.stderr.write(warnings.formatwarning("over\n two lines", UserWarning, "f.py", 1))

    assert report_errors(command) == 0
    assert capfd.readouterr().err == "warning: over two lines\n"


@pytest.fixture
def unusable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder in which nothing can be made, for root as well."""
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JAXSER_CACHE")


def test_without_a_home_the_cache_is_temporary(
    unusable_home: None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = usable_cache()
    check_writable(folder)
    assert usable_cache() == folder
    (line,) = caplog.messages
    assert "the cache cannot be written" in line
    assert "JAXSER_CACHE" in line


def test_without_a_home_programs_are_compiled_again(
    unusable_home: None, caplog: pytest.LogCaptureFixture
) -> None:
    with changed("jax_compilation_cache_dir", None):
        enable_compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    (line,) = caplog.messages
    assert "compiled programs cannot be kept" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sad", "sad"),
        ("Grün, 中文, حزن", "Grün, 中文, حزن"),
        ("a\0b", "a[U+0000]b"),
        ("a\u202eb", "a[U+202E]b"),
        ("\x1b[31m", "[U+001B][31m"),
        ("\udcff", "[U+DCFF]"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("two\n\tlines", "two\n\tlines"),
    ],
)
def test_what_cannot_be_seen_is_named(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_values_in_messages_are_short() -> None:
    nested: list[Any] = []
    nested.append(nested)
    tower: list[Any] = ["x"]
    for _ in range(40):  # 2 ** 40 entries, if they were written out
        tower = [tower, tower]
    many = {str(i): "y" * 1000 for i in range(1000)}
    for value in ("x" * 10**6, nested, tower, many, 10**6000, -(10**6000), [10**6000], b"z" * 500):
        assert len(shown_value(value)) <= 80
    assert shown_value(["a", 1, None]) == "['a', 1, None]"
    assert cut("abcdefghij", 5) == "ab…ij"


def test_one_has_no_plural() -> None:
    told = [counted(count, "utterance") for count in (0, 1, 2, 1000)]
    assert told == ["0 utterances", "1 utterance", "2 utterances", "1,000 utterances"]
