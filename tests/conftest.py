"""Test settings: strict JAX, two virtual CPU devices, and the real corpora where present."""

import gc
import itertools
import os
import shutil
import signal
import threading

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path

# Prepared audio and compiled programs of the tests stay out of the user's own cache.
CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "jaxser"
os.environ["JAXSER_CACHE"] = str(CACHE)

# Sentences and tables are whole in what commands print: tests of narrow terminals set their own
# width. That of pytest's own lines stays what it is.
WIDTH = shutil.get_terminal_size().columns
os.environ["COLUMNS"] = "1000"

# Most of a test's time goes to the compiler, which needs half of it without LLVM's optimisations
# and none where a test or process of any run has compiled the same program before.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from collections.abc import Iterator

import jax
import pytest
from jax._src.interpreters import mlir

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config: pytest.Config) -> None:
    """Beside peers, programs are as users get them: searches branch by how sums are rounded.
    (Small networks are not, see ``tests/peers/conftest.py``.)

    In the short suite XLA's older emitters compile, in two thirds of the time. The flag is read
    when the first program is compiled, and processes that tests start inherit it.
    """
    if config.option.markexpr == "peers":
        jax.config.update("jax_disable_most_optimizations", False)
    # jaxlib 0.11 has the newer ones alone, and ends the process at a flag that it does not know.
    elif "not long" in config.option.markexpr and jax.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"


def pytest_sessionstart(session: pytest.Session) -> None:
    """JAX loads all of MLIR's dialects anew for each program, which takes longer than small ones.

    Programs of tests share contexts; a new one for every hundred gives back what the last held.
    """
    session.config.get_terminal_writer().fullwidth = WIDTH
    make = getattr(mlir, "make_ir_context", None)
    if make is None:  # a JAX that has another way
        return
    made, latest = itertools.count(1), [make()]

    def shared() -> mlir.ir.Context:
        # A context is for one thread at a time.
        if threading.current_thread() is not threading.main_thread():
            return make()
        if next(made) % 100 == 0:
            latest[0] = make()
        return latest[0]

    mlir.make_ir_context = shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that no worker is left alone with it in the end."""
    items.sort(key=lambda item: "test_every_failure" not in item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Python's collector otherwise walks through JAX's many objects in a tenth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture
def optimised() -> Iterator[None]:
    """Programs with LLVM's optimisations, for oracles that depend on how sums are rounded."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """As a terminal's shell leaves them: it ignores Ctrl-C for what it runs in the background, and
    ``nohup`` ignores SIGHUP; both are inherited, and commands leave an ignored signal ignored.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


CORPORA = Path(
    os.environ.get("JAXSER_CORPORA", Path(__file__).resolve().parents[2] / "shared" / "corpora")
)


def corpus_root(name: str) -> Path:
    """Folder of a real corpus; the test is skipped where it is absent."""
    root = CORPORA / name
    if not root.is_dir():
        pytest.skip(f"no real speech at {root}; set JAXSER_CORPORA to a folder that holds {name}/")
    return root


@pytest.fixture
def emodb_root() -> Path:
    return corpus_root("emodb")


@pytest.fixture
def emovo_root() -> Path:
    return corpus_root("emovo")


@pytest.fixture
def ravdess_root() -> Path:
    return corpus_root("ravdess")
