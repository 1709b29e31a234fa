"""Bit rot: whichever file is damaged, it is refused in one sentence, and nothing loads silently."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.struct
import grain
import jax
import jax.numpy as jnp
import miniature
import numpy as np
import pytest
import safetensors.numpy

from jaxser import corpora
from jaxser.corpora import AudioSettings, prepare
from jaxser.corpora.chunks import Chunking
from jaxser.models.wave_unet import WaveUNet
from jaxser.runtime import integrity
from jaxser.runtime.checkpoint import Checkpoints, load_variables
from jaxser.runtime.errors import InputError
from jaxser.runtime.integrity import DIGESTS, damage_in, not_finite, write_digests
from jaxser.victims.staa_net_weights import generator_shapes, read_generator, write_generator


@flax.struct.dataclass
class State:
    variables: Any
    count: Any


def variables(scale: float = 1.0) -> dict[str, Any]:
    kernel = scale * np.arange(6.0, dtype=np.float32).reshape(2, 3)
    return {"params": {"dense": {"kernel": kernel}}, "batch_stats": {"mean": np.ones(3)}}


def numbers() -> grain.DatasetIterator:
    return iter(grain.MapDataset.source(list(range(50))).shuffle(seed=1).to_iter_dataset())


def write_best(root: Path) -> Path:
    checkpoints = Checkpoints(root / "run")
    checkpoints.save_best(1, variables())
    checkpoints.close()
    return root / "run" / "best" / "1"


def read_best(root: Path) -> Any:
    return load_variables(root / "run", variables())


def write_last(root: Path) -> Path:
    checkpoints = Checkpoints(root / "run")
    checkpoints.save_last(3, State(variables(), jnp.int32(3)), numbers(), {"finished": True})
    checkpoints.close()
    return root / "run" / "last" / "3"


def read_last(root: Path) -> Any:
    checkpoints = Checkpoints(root / "run")
    try:
        like = State(jax.tree.map(jnp.asarray, variables(0.0)), jnp.int32(0))
        return checkpoints.restore_last(like, numbers())[1].variables
    finally:
        checkpoints.close()


WHOLE, CUT = AudioSettings(seconds=0.1), AudioSettings(seconds=0.02, chunking=Chunking())


def prepared(root: Path, settings: AudioSettings = WHOLE) -> corpora.Prepared:
    return prepare(corpora.load("emodb", root / "emodb"), settings, cache_dir=root / "cache")


def write_cache(root: Path, settings: AudioSettings = WHOLE) -> Path:
    miniature.emodb(root / "emodb", speakers=("03",))
    return prepared(root, settings).folder


GENERATOR = WaveUNet(num_samples=64, widths=(8, 8), group_size=8)


def write_export(root: Path) -> Path:
    rng = np.random.default_rng(0)
    shapes = generator_shapes(GENERATOR)
    filled = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    write_generator(root / "export" / "generator.safetensors", GENERATOR, filled)
    return root / "export"


def read_export(root: Path) -> Any:
    return read_generator(root / "export" / "generator.safetensors", GENERATOR)


# Whatever is written and read again: (write, read); a new kind of file is a new line.
KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "best": (write_best, read_best),
    "last": (write_last, read_last),
    "cache": (write_cache, lambda root: np.array(prepared(root).waveforms)),
    "chunks": (
        lambda root: write_cache(root, CUT),
        lambda root: np.array(prepared(root, CUT).waveforms),
    ),
    "export": (write_export, read_export),
}


# What a sentence about damage says to do.
ACTIONS = ("restore", "delete", "download it again")


def sentence(read: Callable[[Path], Any], root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(root)
    told = str(caught.value)
    assert told.endswith(".")
    assert "\n" not in told
    assert len(told) < 1000
    return told


def same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_any_file_is_a_sentence(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    folder = write(tmp_path)
    clean = read(tmp_path)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    rng = np.random.default_rng(0)
    for file in files:
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1, int(rng.integers(len(whole)))}:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            told = sentence(read, tmp_path)
            assert "damaged" in told
            assert any(word in told for word in ACTIONS), told
        file.write_bytes(whole)
        same(read(tmp_path), clean)


def test_no_bit_of_an_export_changes_a_weight_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that drops or renames the digest leaves the weights as they are: these load."""
    file = write_export(tmp_path) / "generator.safetensors"
    clean, whole = read_export(tmp_path), file.read_bytes()
    shapes = generator_shapes(GENERATOR)  # are found by tracing the network: once is enough
    monkeypatch.setattr("jaxser.victims.staa_net_weights.generator_shapes", lambda _: shapes)
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    loaded: list[int] = []
    for place in (*rng.integers(0, header, 60), *rng.integers(header, len(whole), 20)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with contextlib.suppress(InputError):
            same(read_export(tmp_path), clean)
            loaded.append(place)
    assert len(loaded) < 10
    assert max(loaded, default=0) < header


@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_cut_and_missing_files_are_sentences(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    folder = write(tmp_path)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for file in files:
        whole = file.read_bytes()
        for damaged in (bytes(len(whole)), whole[: len(whole) // 2], b"", whole + b"\0"):
            if damaged != whole:
                file.write_bytes(damaged)
                sentence(read, tmp_path)
        if file.name != DIGESTS:
            file.unlink()
            sentence(read, tmp_path)
        file.write_bytes(whole)
    read(tmp_path)


@pytest.mark.parametrize("kind", ["best", "last", "cache", "chunks"])
def test_what_was_made_before_there_were_digests_loads(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    folder = write(tmp_path)
    clean = read(tmp_path)
    (folder / DIGESTS).unlink()
    same(read(tmp_path), clean)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "row 2 of"), (3e38, "row 2 of"), (np.inf, "row 2 of"), (0.0, "holds zeros only")],
)
def test_a_cache_without_digests_is_looked_through(
    value: float, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cache(tmp_path)
    (folder / DIGESTS).unlink()
    monkeypatch.setattr("jaxser.corpora.prepared_folder._BLOCK_BYTES", 4 * 1600 * 2)
    waveforms = np.load(folder / "waveforms.npy", mmap_mode="r+")
    if value:
        waveforms[2, 100] = value
    else:
        waveforms[:] = 0
    waveforms.flush()
    assert words in sentence(lambda root: prepared(root), tmp_path)
    shutil.rmtree(folder)  # as the sentence says
    assert np.isfinite(prepared(tmp_path).waveforms).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    wrong = variables()
    wrong["params"]["dense"]["kernel"][1, 1] = value
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save_best(1, wrong)
    checkpoints.save_last(1, State(wrong, jnp.int32(3)), numbers(), {})
    checkpoints.close()
    for read in (read_best, read_last):
        assert "params.dense.kernel (1 of 6 values)" in sentence(read, tmp_path)
    file = write_export(tmp_path) / "generator.safetensors"
    state = safetensors.numpy.load_file(file)
    name = sorted(state)[0]
    state[name] = np.full_like(state[name], value)
    safetensors.numpy.save_file(state, file)
    assert f"not finite in {name} (" in sentence(read_export, tmp_path)


def test_integers_are_never_called_infinite() -> None:
    tree = {"count": jnp.int32(3), "half": jnp.array([jnp.inf, 1], jnp.bfloat16)}
    assert not_finite(tree) == ["half (1 of 2 values)"]


def test_a_better_checkpoint_that_takes_the_place_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on removes a checkpoint while it is read: that is no damage."""
    folder = write_best(tmp_path)
    before = integrity.damage_in

    def overtaken(path: Path) -> str | None:
        if path == folder:
            checkpoints = Checkpoints(tmp_path / "run")
            checkpoints.save_best(2, variables(2.0))
            checkpoints.close()
        return before(path)

    monkeypatch.setattr("jaxser.runtime.checkpoint.damage_in", overtaken)
    same(read_best(tmp_path), variables(2.0))


def test_large_files_have_a_digest_for_every_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "_PIECE_BYTES", 1000)
    file = tmp_path / "large"
    whole = np.random.default_rng(0).bytes(3500)
    file.write_bytes(whole)
    write_digests(tmp_path)
    assert (tmp_path / DIGESTS).read_text().count("large@") == 4
    assert damage_in(tmp_path) is None
    for place in range(0, 3500, 499):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert damage_in(tmp_path) == "its file large is not as it was written"
    for wrong in (whole[:-1], whole[:2000], whole + b"x", whole * 2):
        file.write_bytes(wrong)
        assert damage_in(tmp_path) == "its file large is not as it was written"


def test_a_process_looks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    write_digests(tmp_path)
    read = []
    digest = integrity._digest
    monkeypatch.setattr(integrity, "_digest", lambda *a: read.append(a) or digest(*a))
    assert damage_in(tmp_path) is None
    assert damage_in(tmp_path) is None
    assert len(read) == 1


def test_the_list_is_one_of_sha256sum(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum here")
    folder = write_best(tmp_path)
    command = ["sha256sum", "--check", "--strict", "--quiet", DIGESTS]
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
