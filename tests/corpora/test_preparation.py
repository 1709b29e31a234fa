"""The prepared cache: its content, its key, damage, concurrency and full disks."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import miniature
import numpy as np
import pytest
import soundfile
import soxr
from processor_time import processor_seconds

from jaxser import corpora
from jaxser.corpora import AudioSettings, prepare, waveform_file
from jaxser.runtime.errors import InputError
from jaxser.runtime.integrity import DIGESTS

SHORT = AudioSettings(seconds=0.1)


@pytest.fixture
def emodb(tmp_path):
    return corpora.load("emodb", miniature.emodb(tmp_path / "emodb", speakers=("03", "08")))


def prepared_folders(cache):
    return sorted(path.name for path in (cache / "prepared").iterdir())


def test_rows_are_the_decoded_resampled_and_repeated_files(tmp_path):
    root = miniature.ravdess(tmp_path / "ravdess", actors=(1, 2), frames=4800, channels=2)
    corpus = corpora.load("ravdess", root)
    settings = AudioSettings(seconds=0.2)
    prepared = prepare(corpus, settings, cache_dir=tmp_path / "cache")
    assert isinstance(prepared.waveforms, np.memmap)
    assert not prepared.waveforms.flags.writeable
    assert (prepared.waveforms.shape, prepared.waveforms.dtype) == ((16, 3200), np.float32)
    assert prepared.corpus.utterances == corpus.utterances
    assert prepared.skipped == ()
    for utterance, row in zip(corpus.utterances, prepared.waveforms, strict=True):
        x, _ = soundfile.read(utterance.path, dtype="float32")
        expected = soxr.resample(x[:, 0], 48_000, 16_000, quality="HQ")
        assert len(expected) == 1600
        np.testing.assert_array_equal(row, np.clip(np.concatenate([expected, expected]), -1, 1))


def test_channel_mean_and_padding(tmp_path):
    corpus = corpora.load("emovo", miniature.emovo(tmp_path / "emovo"))
    prepared = prepare(
        corpus, AudioSettings(seconds=0.2, channel="mean", length="pad"), cache_dir=tmp_path
    )
    x, _ = soundfile.read(corpus.utterances[0].path, dtype="float32")
    expected = soxr.resample(x.mean(axis=1), 48_000, 16_000, quality="HQ")
    np.testing.assert_allclose(prepared.waveforms[0, :1600], expected, atol=1e-7)
    assert not prepared.waveforms[:, 1600:].any()
    assert any("spaced microphones" in note for note in prepared.corpus.notes)
    left = prepare(corpus, SHORT, cache_dir=tmp_path)
    assert not any("spaced microphones" in note for note in left.corpus.notes)


def test_full_scale_overshoot_is_clipped(tmp_path):
    root = miniature.emodb(tmp_path / "emodb", speakers=("03",))
    square = np.sign(np.sin(np.arange(4410) / 7)) * 0.999
    soundfile.write(root / "wav" / "03a01Wa.wav", square, 22_050)
    overshoot = np.abs(soxr.resample(square, 22_050, 16_000)).max()
    assert overshoot > 1
    prepared = prepare(corpora.load("emodb", root), SHORT, cache_dir=tmp_path)
    assert np.abs(prepared.waveforms).max() == 1


def test_a_second_start_opens_no_audio(tmp_path, emodb, monkeypatch):
    first = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")

    def must_not_run(*_):
        raise AssertionError("audio was read again")

    monkeypatch.setattr(waveform_file, "read_bytes", must_not_run)
    second = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    assert second.fingerprint == first.fingerprint
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.waveforms, first.waveforms)
    assert second.corpus == first.corpus


def test_the_key_is_content_and_settings_not_place_or_time(tmp_path, emodb):
    cache = tmp_path / "cache"
    first = prepare(emodb, SHORT, cache_dir=cache)
    for utterance in emodb.utterances:
        os.utime(utterance.path)
    assert prepare(emodb, SHORT, cache_dir=cache).fingerprint == first.fingerprint
    moved = emodb.root.rename(tmp_path / "moved")
    again = prepare(corpora.load("emodb", moved), SHORT, cache_dir=cache)
    assert again.fingerprint == first.fingerprint
    assert len(prepared_folders(cache)) == 1
    other = prepare(corpora.load("emodb", moved), AudioSettings(seconds=0.2), cache_dir=cache)
    assert other.fingerprint != first.fingerprint
    assert len(prepared_folders(cache)) == 2


def test_changed_content_is_noticed_even_with_the_old_time_and_size(tmp_path, emodb):
    first = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    path = emodb.utterances[3].path
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-100:] = bytes(100)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    assert second.fingerprint != first.fingerprint
    assert not np.array_equal(second.waveforms[3], first.waveforms[3])
    np.testing.assert_array_equal(second.waveforms[4:], first.waveforms[4:])


def damage(corpus):
    """Three damaged files, each in another way; returns their ids."""
    hurt = [corpus.utterances[i] for i in (0, 5, 13)]
    hurt[0].path.write_text("not sound")
    hurt[1].path.write_bytes(hurt[1].path.read_bytes()[:100])
    hurt[2].path.unlink()
    return [u.id for u in hurt]


def test_damaged_files_are_all_listed_and_nothing_is_prepared(tmp_path, emodb):
    ids = damage(emodb)
    cache = tmp_path / "cache"
    for _ in range(2):  # the second time from the index
        with pytest.raises(InputError) as caught:
            prepare(emodb, SHORT, cache_dir=cache)
        head, *lines = str(caught.value).splitlines()
        assert head.startswith("3 of 14 files of EmoDB are damaged; mend them, or leave them out")
        assert [line.strip().split(": ")[0] for line in lines] == [
            f"{emodb.root / name}.wav" for name in ids
        ]
        assert "cannot be decoded as audio" in lines[0]
        assert "promises" in lines[1]
        assert "no such file" in lines[2]
        assert prepared_folders(cache) == []


def test_skip_damaged_goes_on_and_records_what_was_left_out(tmp_path, emodb):
    whole = prepare(emodb, SHORT, cache_dir=tmp_path / "other")
    ids = damage(emodb)
    for _ in range(2):
        prepared = prepare(emodb, SHORT, cache_dir=tmp_path / "cache", skip_damaged=True)
        assert [name for name, _ in prepared.skipped] == ids
        assert prepared.waveforms.shape == (11, 1600)
        kept = [i for i, u in enumerate(emodb.utterances) if u.id not in ids]
        assert prepared.corpus.utterances == tuple(emodb.utterances[i] for i in kept)
        np.testing.assert_array_equal(prepared.waveforms, whole.waveforms[kept])
        assert "3 damaged files left out of EmoDB" in prepared.corpus.notes
        stored = json.loads((prepared.folder / "prepared.json").read_text())
        assert [name for name, _ in stored["skipped"]] == ids
        assert len(stored["files"]) == 11


def test_a_mended_file_comes_back(tmp_path, emodb):
    path = emodb.utterances[0].path
    data = path.read_bytes()
    path.write_bytes(data[:60])
    with pytest.raises(InputError, match="1 of 14 files"):
        prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    path.write_bytes(data)
    assert prepare(emodb, SHORT, cache_dir=tmp_path / "cache").skipped == ()


def test_a_corpus_of_damaged_files_is_refused(tmp_path, emodb):
    for utterance in emodb.utterances:
        utterance.path.write_bytes(b"")
    with pytest.raises(InputError, match="all 14 files of EmoDB are damaged"):
        prepare(emodb, SHORT, cache_dir=tmp_path / "cache", skip_damaged=True)


def test_a_sample_too_short_to_resample_is_damage(tmp_path):
    root = miniature.ravdess(tmp_path / "ravdess", actors=(1,))
    miniature.write_noise(
        root / "Actor_01" / "03-01-01-01-01-01-01.wav", frames=1, sample_rate=48_000
    )
    settings = AudioSettings(seconds=0.1, shortest=0)
    with pytest.raises(InputError, match="1 samples are too few to resample"):
        prepare(corpora.load("ravdess", root), settings, cache_dir=tmp_path / "cache")


def test_a_damaged_cache_of_an_older_version_is_made_again(tmp_path, emodb):
    first = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    expected = np.array(first.waveforms)
    file = first.folder / "waveforms.npy"
    for content in (file.read_bytes()[:1000], b"", b"junk" * 100):
        (first.folder / DIGESTS).unlink()
        file.write_bytes(content)
        again = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(again.waveforms, expected)


def test_a_damaged_index_is_made_again(tmp_path, emodb):
    first = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    (index,) = (tmp_path / "cache" / "index").iterdir()
    for content in ("", "{", '{"version": 0}'):
        index.write_text(content)
        assert prepare(emodb, SHORT, cache_dir=tmp_path / "cache").fingerprint == first.fingerprint


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["os.pwrite", "os.posix_fallocate", "os.fsync"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, emodb, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(call, full_disk)
        with pytest.raises(OSError, match="No space left"):
            prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    assert prepared_folders(tmp_path / "cache") == []
    assert prepare(emodb, SHORT, cache_dir=tmp_path / "cache").waveforms.shape == (14, 1600)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, emodb):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cache folder .* cannot be written .*JAXSER_CACHE"):
        prepare(emodb, SHORT, cache_dir=tmp_path / "cache")


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path, emodb):
    old = tmp_path / "cache" / "prepared" / ".building-old"
    young = tmp_path / "cache" / "prepared" / ".building-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "waveforms.npy").write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    assert not old.exists()
    assert young.exists()


TWO_PROCESSES = """
import sys, hashlib
from jaxser import corpora
corpus = corpora.load("emodb", sys.argv[1])
sys.stdin.readline()
prepared = corpora.prepare(corpus, corpora.AudioSettings(seconds=1.0), cache_dir=sys.argv[2])
print(prepared.fingerprint, hashlib.sha256(prepared.waveforms.tobytes()).hexdigest())
"""


def test_two_processes_may_prepare_the_same_corpus_at_once(tmp_path):
    root = miniature.emodb(
        tmp_path / "emodb", speakers=("03", "08", "09", "10", "11", "12", "13"), frames=20_000
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(root), str(tmp_path / "cache")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len(prepared_folders(tmp_path / "cache")) == 1
    prepared = prepare(
        corpora.load("emodb", root), AudioSettings(seconds=1.0), cache_dir=tmp_path / "cache"
    )
    assert prepared.fingerprint == outputs[0].split()[0]


def test_the_loser_of_a_race_uses_what_the_winner_wrote(tmp_path, emodb, monkeypatch):
    winner = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    marker = winner.folder / "marker"
    marker.touch()
    # As if the other process had published after this one had looked.
    for index in (tmp_path / "cache" / "index").iterdir():
        index.unlink()
    loser = prepare(emodb, SHORT, cache_dir=tmp_path / "cache")
    assert marker.exists()
    np.testing.assert_array_equal(loser.waveforms, winner.waveforms)
    assert len(prepared_folders(tmp_path / "cache")) == 1


def test_the_default_cache_is_where_the_environment_says(tmp_path, emodb, monkeypatch):
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "mine"))
    assert prepare(emodb, SHORT).folder.is_relative_to(tmp_path / "mine")


@pytest.mark.parametrize(
    "wrong",
    [{"sample_rate": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"seconds": -1.0},
     {"channel": "right"}, {"length": "mirror"}],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError):
        AudioSettings(**wrong)


# What the audio turns out to be


def test_cut_and_resampled_emodb_is_not_called_emodb(tmp_path):
    root = miniature.emodb(tmp_path / "anything", frames=11_025, sample_rate=22_050)
    prepared = prepare(corpora.load("emodb", root), SHORT, cache_dir=tmp_path / "cache")
    assert prepared.corpus.title == "EmoDB, first 0.5 s"
    assert prepared.corpus.notes[-1] == (
        "audio is not the original EmoDB: 22,050 Hz, cut to 0.5 s; figures are 'EmoDB, first 0.5 s'"
    )


def varied_emodb(root, sample_rate):
    miniature.emodb(root, sample_rate=sample_rate)
    for place, path in enumerate(sorted((root / "wav").iterdir())):
        frames = int(sample_rate * (1.3 + 0.2 * place))
        miniature.write_noise(path, frames=frames, sample_rate=sample_rate)
    return corpora.load("emodb", root)


def test_resampled_emodb_says_so_and_original_audio_keeps_its_title(tmp_path):
    prepared = prepare(varied_emodb(tmp_path / "a", 8_000), SHORT, cache_dir=tmp_path / "cache")
    assert prepared.corpus.title == "EmoDB at 8,000 Hz"
    prepared = prepare(varied_emodb(tmp_path / "b", 16_000), SHORT, cache_dir=tmp_path / "cache")
    assert prepared.corpus.title == "EmoDB"
    assert prepared.corpus.notes == ("28 of the 535 utterances of EmoDB",)


def test_real_emodb_copy_is_named_by_what_its_headers_say(tmp_path, emodb_root):
    prepared = prepare(corpora.load("emodb", emodb_root), cache_dir=tmp_path)
    assert prepared.waveforms.shape == (535, 32_000)
    assert prepared.corpus.title == "EmoDB, first 2 s"
    assert prepared.corpus.notes == (
        "audio is not the original EmoDB: 22,050 Hz, cut to 2 s; figures are 'EmoDB, first 2 s'",
    )
    assert np.abs(prepared.waveforms).max(axis=1).min() > 0.01


def test_a_few_odd_files_are_counted(tmp_path, ravdess_root):
    prepared = prepare(corpora.load("ravdess", ravdess_root), cache_dir=tmp_path)
    assert prepared.corpus.title == "RAVDESS"
    assert "8 of 198 files of RAVDESS are not at 48,000 Hz" in prepared.corpus.notes


@pytest.mark.long
def test_a_second_start_takes_under_2_seconds_for_10000_utterances(tmp_path):
    header = miniature.write_noise(tmp_path / "one.wav", frames=160).read_bytes()
    lines = ["file,label"]
    for place in range(10_000):
        name = f"wav/{place:05d}.wav"
        lines.append(f"{name},{'ab'[place % 2]}")
        (tmp_path / "wav").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(header[:-4] + place.to_bytes(4, "little"))
    (tmp_path / "table.csv").write_text("\n".join(lines))
    settings = AudioSettings(seconds=0.01, shortest=0)
    first = prepare(corpora.load("csv", tmp_path), settings, cache_dir=tmp_path / "cache")
    start = processor_seconds()
    second = prepare(corpora.load("csv", tmp_path), settings, cache_dir=tmp_path / "cache")
    assert processor_seconds() - start < 2
    assert second.fingerprint == first.fingerprint
