"""What ``check`` finds in corpora that are whole, odd or damaged."""

import json

import miniature
import numpy as np
import pytest
import soundfile

from jaxser.corpora.check_report import report_text
from jaxser.corpora.checking import check
from jaxser.runtime.errors import InputError


def files(report, kind):
    return [entry["file"] for entry in report["problems"][kind]]


def found(report):
    return {kind: len(entries) for kind, entries in report["problems"].items() if entries}


@pytest.fixture
def whole_emovo(tmp_path):
    """All 588 files of the official EMOVO, in miniature."""
    codes = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    sentences = [*(f"b{i}" for i in (1, 2, 3)), *(f"l{i}" for i in (1, 2, 3, 4)),
                 *(f"n{i}" for i in (1, 2, 3, 4, 5)), "d1", "d2"]  # fmt: skip
    root = tmp_path / "emovo"
    for speaker in ("f1", "f2", "f3", "m1", "m2", "m3"):
        for code in codes:
            for sentence in sentences:
                name = f"{code}-{speaker}-{sentence}.wav"
                miniature.write_noise(
                    root / speaker / name,
                    frames=48,
                    sample_rate=48_000,
                    channels=1 if name == "rab-f1-b1.wav" else 2,
                )
    (root / "documents").mkdir()
    (root / "documents" / "emovo.pdf").write_bytes(b"%PDF")
    return root


def test_a_corpus_as_released_has_status_0(whole_emovo):
    report = check("emovo", whole_emovo, shortest=0)
    assert report["status"] == 0
    assert found(report) == {}
    assert report["departures"] == []
    assert report["notes"] == []
    assert report["channels"] == {"2": 587, "1": 1}
    assert report_text(report).splitlines()[-1] == (
        "EMOVO is as the official corpus: nothing is wrong."
    )


def test_missing_files_and_a_second_mono_file_are_departures(whole_emovo):
    (whole_emovo / "m3" / "tri-m3-d2.wav").unlink()
    miniature.write_noise(whole_emovo / "m3" / "tri-m3-d1.wav", sample_rate=48_000)
    report = check("emovo", whole_emovo, shortest=0)
    assert report["departures"] == [
        "587 of 588 utterances: sadness 83 of 84",
        "2 of 587 files with 1 channels instead of 2",
    ]
    assert report["status"] == 1


def test_every_kind_of_bad_file_is_found(tmp_path):
    root = miniature.ravdess(tmp_path, actors=(1, 2, 3))
    actor = root / "Actor_01"
    (actor / "03-01-01-01-01-01-01.wav").write_text("text")
    (actor / "03-01-02-01-01-01-01.wav").write_bytes(b"")
    soundfile.write(actor / "03-01-03-01-01-01-01.wav", np.zeros(0), 48_000)
    nan = np.array([0.1, np.nan], np.float32)
    soundfile.write(actor / "03-01-04-01-01-01-01.wav", nan, 48_000, subtype="FLOAT")
    soundfile.write(actor / "03-01-05-01-01-01-01.wav", np.full(4800, 0.25), 48_000)
    cut = actor / "03-01-06-01-01-01-01.wav"
    cut.write_bytes(cut.read_bytes()[:-50])
    twin = root / "Actor_02" / "03-01-07-01-01-01-02.wav"
    twin.write_bytes((actor / "03-01-07-01-01-01-01.wav").read_bytes())
    misplaced = root / "Actor_03" / "03-01-08-01-01-01-02.wav"
    misplaced.write_bytes((root / "Actor_03" / "03-01-08-01-01-01-03.wav").read_bytes())
    miniature.write_noise(root / "Actor_03" / "cough.wav")
    (root / "thumbs.db").write_bytes(b"x")
    (root / "README.md").write_text("belongs")
    (root / "._Actor_01").write_bytes(b"passed over")
    report = check("ravdess", root)
    assert found(report) == {
        "damaged": 2, "empty": 2, "non-finite": 1, "silent": 1, "duplicated": 1, "misplaced": 1,
        "stray": 2,
    }  # fmt: skip
    prefix = "Actor_01/03-01-0"
    assert files(report, "damaged") == [f"{prefix}{i}-01-01-01-01.wav" for i in (1, 6)]
    assert files(report, "empty") == [f"{prefix}{i}-01-01-01-01.wav" for i in (2, 3)]
    assert files(report, "non-finite") == [f"{prefix}4-01-01-01-01.wav"]
    assert files(report, "silent") == [f"{prefix}5-01-01-01-01.wav"]
    assert files(report, "stray") == ["Actor_03/cough.wav", "thumbs.db"]
    assert report["problems"]["duplicated"] == [
        {
            "files": ["Actor_01/03-01-07-01-01-01-01.wav", "Actor_02/03-01-07-01-01-01-02.wav"],
            "labels": ["disgust"],
            "known": False,
        }
    ]
    assert report["problems"]["misplaced"] == [
        {
            "file": "Actor_03/03-01-08-01-01-01-02.wav",
            "reason": "folder Actor_03, but the name says actor 02; same audio as "
            "Actor_03/03-01-08-01-01-01-03.wav",
        }
    ]
    assert report["status"] == 1
    assert "24 utterances by 3 speakers (1 female, 2 male)" in report_text(report)
    # Everything in the report is plain, as --json needs it.
    assert json.loads(json.dumps(report)) == report


def full_ravdess(root):
    """All 1,440 names, tiny."""
    for actor in range(1, 25):
        for emotion in range(1, 9):
            for intensity in (1,) if emotion == 1 else (1, 2):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        name = (
                            f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-"
                            f"{repetition:02d}-{actor:02d}.wav"
                        )
                        path = root / f"Actor_{actor:02d}" / name
                        miniature.write_noise(path, frames=24, sample_rate=48_000)
    return root


def test_the_known_identical_pair_of_ravdess_is_no_fault(tmp_path):
    root = full_ravdess(tmp_path)
    pair = [root / "Actor_07" / f"03-01-03-01-02-0{i}-07.wav" for i in (1, 2)]
    pair[1].write_bytes(pair[0].read_bytes())
    report = check("ravdess", root, shortest=0)
    (group,) = report["problems"]["duplicated"]
    assert group["known"]
    assert report["departures"] == []
    assert report["status"] == 0
    assert "(known: so in the official release)" in report_text(report)
    # Another pair is a fault.
    (root / "Actor_08" / "03-01-03-01-02-01-08.wav").write_bytes(pair[0].read_bytes())
    assert check("ravdess", root, shortest=0)["status"] == 1


def test_copies_are_compared_by_their_audio(tmp_path):
    root = miniature.ravdess(tmp_path, actors=(1,))
    inner = miniature.ravdess(tmp_path / "audio_speech_actors_01-24", actors=(1,))
    miniature.write_noise(inner / "Actor_01" / "03-01-01-01-01-01-01.wav", seed="other")
    copied = check("ravdess", root)["problems"]["copied"]
    assert len(copied) == 8
    assert copied[0]["reason"].endswith("of the same name was read, but with other audio")
    assert all("same audio as Actor_01/" in entry["reason"] for entry in copied[1:])


def test_stereo_with_equal_channels_is_counted_and_equals_its_mono_twin(tmp_path):
    root = miniature.emovo(tmp_path)
    x = miniature.noise("x", frames=4800)
    soundfile.write(root / "f1" / "neu-f1-b1.wav", np.concatenate([x, x], axis=1), 48_000)
    soundfile.write(root / "f1" / "rab-f1-b1.wav", x, 48_000)
    report = check("emovo", root)
    assert report["equal_channels"] == {"neutral": 1}
    assert report["problems"]["duplicated"][0]["files"] == [
        "f1/neu-f1-b1.wav", "f1/rab-f1-b1.wav",
    ]  # fmt: skip
    assert "labelled anger and neutral" in report_text(report)


def test_a_missing_iemocap_sentence_is_damage_and_other_classes_are_counted(tmp_path):
    root = miniature.iemocap(
        tmp_path, {"Session1": {"ang": 4, "exc": 2, "oth": 2}}, with_audio=True
    )
    wav = root / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    wav.unlink()
    report = check("iemocap", root)
    assert report["problems"]["damaged"] == [
        {"file": wav.relative_to(root).as_posix(), "reason": "there is no such file"}
    ]
    assert report["utterances"] == 8
    assert report["classes"]["other"]["used"] is False
    assert "other (left out)" in report_text(report)


def test_csv_has_no_official_numbers(tmp_path):
    for name in ("a.wav", "b.wav"):
        miniature.write_noise(tmp_path / name)
    (tmp_path / "table.csv").write_text("file,label\na.wav,x\nb.wav,y\n")
    report = check("csv", tmp_path / "table.csv")
    assert report["status"] == 0
    assert report_text(report).splitlines()[-1] == "Nothing is wrong with table."


def test_a_wrong_root_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        check("emodb", tmp_path / "absent")


def test_durations(tmp_path):
    root = miniature.emodb(tmp_path, speakers=("03",), frames=16_000)
    miniature.write_noise(root / "wav" / "03a01Wa.wav", frames=48_000)
    report = check("emodb", root)
    assert report["duration"] == {"min": 1.0, "median": 1.0, "max": 3.0, "total": 9.0}
    assert "total 0:00:09" in report_text(report)
    assert (
        "6 files are shorter or longer than any original; the original lasts 1.23 to 8.98 s"
        in (report["departures"])
    )


def test_real_emodb_copy(emodb_root):
    report = check("emodb", emodb_root)
    assert report["title"] == "EmoDB, first 2 s"
    assert found(report) == {}
    assert report["departures"] == [
        "535 of 535 files at 22,050 Hz instead of 16,000 Hz",
        "the files are cut to 2 s; the original lasts 1.23 to 8.98 s",
    ]
    assert report["status"] == 1


def test_real_emovo_copy(emovo_root):
    report = check("emovo", emovo_root)
    assert found(report) == {}
    assert report["channels"] == {"2": 83, "1": 1}
    assert set(report["equal_channels"]) == {"neutral"}


def test_real_ravdess_copy(ravdess_root):
    report = check("ravdess", ravdess_root)
    assert found(report) == {"misplaced": 1}
    assert files(report, "misplaced") == ["Actor_05/03-01-05-01-01-01-02.wav"]
    assert report["sample_rates"] == {"48000": 190, "22050": 8}
    assert report["channels"] == {"1": 193, "2": 5}
