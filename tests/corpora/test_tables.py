"""Tables that contradict themselves, names that are written in several ways, and hostile tables."""

import json
import os
import unicodedata
from pathlib import Path

import miniature
import numpy as np
import pytest
import soundfile

from jaxser import corpora
from jaxser.corpora import AudioSettings, prepare
from jaxser.corpora.check_report import report_text
from jaxser.corpora.checking import check
from jaxser.corpora.table import Utterance, file_of_id
from jaxser.corpora.table_faults import table_faults
from jaxser.runtime.errors import InputError
from jaxser.speech import audio

SHORT = AudioSettings(seconds=0.1)


def table(folder: Path, *lines: str, header: str = "file,label,speaker,gender") -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def utterances(*rows: tuple[str, ...]) -> list[Utterance]:
    names = ("label", "speaker", "gender")
    return [
        Utterance(id=str(i), path=Path(f"{i}.wav"), **dict(zip(names, row, strict=False)))
        for i, row in enumerate(rows)
    ]


SOUND = utterances(("anger", "s1", "female"), ("sad", "s2", "male"), ("anger", "s11", "unknown"))


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([("Angry", "s1"), ("angry", "s1"), ("angry", "s2")],
         ["the labels 'Angry' (1) and 'angry' (2) are one, spelt in 2 ways"]),
        ([("very sad", "s1"), ("Very_sad", "s1"), ("very-sad", "s2")],
         ["the labels 'Very_sad' (1) and 'very sad' (1) and 'very-sad' (1) are one, spelt in 3 "
          "ways"]),
        ([("\u00e4rger", "s1"), ("a\u0308rger", "s2")],
         [r"the labels 'a\u0308rger' (1) and '\xe4rger' (1) are one, spelt in 2 ways"]),
        ([("anger", "Ann"), ("sad", "ann")],
         ["the speakers 'Ann' (1) and 'ann' (1) are one, spelt in 2 ways"]),
        ([("nan", "s1"), ("sad", "s1"), ("nan", "s2")],
         ["2 utterances have the label 'nan', which is how a missing one is written"]),
        ([("sad", "None"), ("anger", "s1")],
         ["1 utterance has the speaker 'None', which is how a missing one is written"]),
        ([("sad", "unknown"), ("anger", "s1")],
         ["1 utterance has no speaker, while others have one"]),
        ([("sad", "s1", "male"), ("sad", "s1", "female"), ("sad", "s1", "male")],
         ["speaker s1 is female in 1 utterance and male in 2 utterances"]),
        # A missing gender is no gender, and a missing speaker nobody.
        ([("sad", "s1", "male"), ("sad", "s1", "unknown")], []),
        ([("sad", "unknown", "male"), ("sad", "unknown", "female")], []),
        # Numbers are not one because their digits are.
        ([("sad", "1-1"), ("sad", "11"), ("sad", "1.1")], []),
    ],
)  # fmt: skip
def test_a_table_that_contradicts_itself(rows, faults):
    assert table_faults(utterances(*rows)) == faults


def test_lists_of_faults_are_cut():
    rows = [(f"{case(f'label{i}')}", "s1") for i in range(40) for case in (str.lower, str.upper)]
    faults = table_faults(utterances(*rows))
    assert len(faults) == 6
    assert faults[-1] == "35 more labels are spelt in several ways"


def test_check_names_them_and_has_status_1(tmp_path):
    labels = ("angry", "Angry", "sad", "sad", "nan", "angry")
    for i, _ in enumerate(labels):
        miniature.write_noise(tmp_path / f"{i}.wav")
    path = table(tmp_path, *(f"{i}.wav,{label},s{i},f" for i, label in enumerate(labels)))
    report = check("csv", path)
    assert report["status"] == 1
    assert len(report["inconsistencies"]) == 2
    assert report_text(report).splitlines()[-1] == (
        "table is not as it should be: 2 faults of the table."
    )


def test_check_counts_no_missing_speaker_among_the_speakers(tmp_path):
    for name in "abc":
        miniature.write_noise(tmp_path / f"{name}.wav")
    some = check("csv", table(tmp_path, "a.wav,x,s,f", "b.wav,y,,m", "c.wav,y,,m"))
    assert list(some["speakers"]) == ["s"]
    text = report_text(some)
    assert "3 utterances by 1 speaker (1 female) and 2 of them without a speaker" in text
    none = check("csv", table(tmp_path, "a.wav,x,,f", "b.wav,y,,m"))
    assert none["status"] == 0
    assert "\n2 utterances without a speaker\n" in report_text(none)


def test_a_missing_speaker_is_no_speaker_of_a_split(tmp_path):
    lines = [f"{i}.wav,{'ab'[i % 2]},{'' if i > 5 else f's{i // 2}'},f" for i in range(8)]
    corpus = corpora.load("csv", table(tmp_path, *lines))
    for split in ("speaker", "kfold", "loso"):
        with pytest.raises(InputError, match="2 of 8 utterances of table have no speaker"):
            corpora.assign_split(corpus, split)
    notes = corpora.assign_split(corpus, "random_80_20").notes
    assert any("knows no speaker of 2 utterances" in note for note in notes)


def test_a_gender_given_once_is_the_speakers():
    from jaxser.corpora.table import genders_of

    rows = utterances(("x", "s1", "female"), ("x", "s1", "unknown"), ("x", "s2", "unknown"))
    assert genders_of(rows) == {"s1": "female", "s2": "unknown"}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_names_are_found_however_they_are_composed(tmp_path, on_disk, in_table):
    names = [f"Übung/Grün_{i}.wav" for i in range(4)]
    for name in names:
        miniature.write_noise(tmp_path / unicodedata.normalize(on_disk, name))
    written = [unicodedata.normalize(in_table, name) for name in names]
    lines = [f"{name},{'ab'[i % 2]},s{i},f" for i, name in enumerate(written)]
    corpus = corpora.load("csv", table(tmp_path, *lines))
    # Ids are as the table has them, so that what was prepared before is found.
    assert {u.id for u in corpus.utterances} == {name.removesuffix(".wav") for name in written}
    assert prepare(corpus, SHORT, cache_dir=tmp_path / "cache").skipped == ()
    split = "".join(f"{unicodedata.normalize('NFD', n)[:-4]},train\n" for n in names[:2])
    split += "".join(f"{unicodedata.normalize('NFC', n)[:-4]},test\n" for n in names[2:])
    (tmp_path / "split").write_text("id,split\n" + split, encoding="utf-8")
    parts = corpora.assign_split(corpus, "csv", file=tmp_path / "split").utterances
    assert sorted(u.split for u in parts) == ["test", "test", "train", "train"]


def test_one_file_composed_and_decomposed_is_there_twice(tmp_path):
    lines = [f"{unicodedata.normalize(form, 'ü.wav')},a,s,f" for form in ("NFC", "NFD")]
    with pytest.raises(InputError, match=r"line 3: the file .* is also in line 2"):
        corpora.load("csv", table(tmp_path, *lines))


def test_paths_from_windows_and_absolute_ones(tmp_path):
    miniature.write_noise(tmp_path / "wav" / "a.wav")
    miniature.write_noise(tmp_path / r"b\c.wav")
    miniature.write_noise(tmp_path / "d.wav")
    lines = [r"wav\a.wav,x,s,f", r"b\c.wav,y,s,f", f"{tmp_path / 'd.wav'},y,s,f"]
    corpus = corpora.load("csv", table(tmp_path, *lines))
    assert [u.id for u in corpus.utterances] == [str(tmp_path / "d"), r"b\c", "wav/a"]
    assert prepare(corpus, SHORT, cache_dir=tmp_path / "cache").skipped == ()


def test_two_files_of_one_name_can_have_ids_of_their_own(tmp_path):
    lines = ["a.wav,x,s,f", "a.flac,y,s,f"]
    with pytest.raises(InputError) as caught:
        corpora.load("csv", table(tmp_path, *lines))
    assert str(caught.value).endswith(
        "line 3: 'a.flac' and 'a.wav' in line 2 would both have the id 'a'; leave one out, or give "
        "every line an id of its own in a column id."
    )
    named = [f"{line},{i}" for i, line in enumerate(lines)]
    header = "file,label,speaker,gender,id"
    corpus = corpora.load("csv", table(tmp_path, *named, header=header))
    assert [u.id for u in corpus.utterances] == ["0", "1"]
    with pytest.raises(InputError, match="line 3: the id '0' is also in line 2"):
        corpora.load("csv", table(tmp_path, f"{lines[0]},0", "b.wav,y,s,f,0", header=header))


HOSTILE = {
    "a folder": (".,x,s,f", "line 2: file '.' is a folder"),
    "the root": ("/,x,s,f", "line 2: file '/' is a folder"),
    "the folder above": ("wav/..,x,s,f", "line 2: file 'wav/..' is a folder"),
    "a NUL": ("a\0b.wav,x,s,f", r"line 2: file 'a\x00b.wav' holds a line end or a NUL"),
    "an open quote": ('a.wav,"x,s,f\nb.wav,y,s,f', "unexpected end of data; is a quote not closed"),
    "a quote over two lines": ('a.wav,"x\ny",s,f', "holds a line end or a NUL character"),
    "a quote inside": ('a.wav,"x"y,s,f', "is a quote not closed?"),
    "a long field": ("a" * 200_000 + ",x,s,f", "a field has more than 131,072 characters"),
    "a long gender": (f"a.wav,x,s,{'f' * 100_000}", "fff...' is not one of female, male, unknown"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_lines_are_one_short_sentence(tmp_path, case):
    line, message = HOSTILE[case]
    with pytest.raises(InputError) as caught:
        corpora.load("csv", table(tmp_path, line))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "long name", "NUL", "under a file"])
def test_a_table_that_is_no_file(tmp_path, kind):
    path = tmp_path / "x.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_text("x")
        path = {
            "device": Path("/dev/zero"), "long name": tmp_path / ("x" * 300),
            "NUL": Path("a\0b"), "under a file": path / "y",
        }[kind]  # fmt: skip
    for root in (path, tmp_path) if kind == "pipe" else (path,):
        with pytest.raises(InputError) as caught:
            corpora.load("csv", root)
        assert "\n" not in str(caught.value)
        assert "\0" not in str(caught.value)


def test_links_to_nowhere_and_pipes_in_a_corpus_are_named(tmp_path):
    root = miniature.emodb(tmp_path / "emodb", speakers=("03",))
    wav = root / "wav"
    (wav / "08a01Fa.wav").symlink_to(wav / "absent.wav")
    (wav / "08a01Na.wav").symlink_to(wav / "08a01Na.wav")
    os.mkfifo(wav / "08a01Wa.wav")
    (root / "again").symlink_to(root)
    report = check("emodb", root)
    found = {entry["file"]: entry["reason"] for entry in report["problems"]["damaged"]}
    assert found["wav/08a01Fa.wav"] == "there is no such file"
    assert found["wav/08a01Na.wav"].startswith("it cannot be read")
    assert found["wav/08a01Wa.wav"] == "it is a pipe or a device, not a file"
    assert len(found) == 3


def test_a_name_that_is_no_text_is_stray(tmp_path):
    root = miniature.emodb(tmp_path, speakers=("03",))
    source = (root / "wav" / "03a01Wa.wav").read_bytes()
    (root / "wav" / os.fsdecode(b"Gr\xfcn.wav")).write_bytes(source)
    report = check("emodb", root)
    (entry,) = report["problems"]["stray"]
    assert entry["file"] == r"wav/Gr\udcfcn.wav"
    assert entry["reason"].startswith("its name is not UTF-8")
    assert report_text(report).encode()
    assert json.dumps(report, ensure_ascii=False).encode()


def test_files_too_short_to_be_speech_are_damage_and_the_length_is_a_setting(tmp_path):
    root = miniature.emodb(tmp_path / "emodb", speakers=("03",))
    path = root / "wav" / "03a01Wa.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, 10), 192_000)
    reason = "it lasts 5.21e-05 s (10 samples at 192,000 Hz), less than the shortest length of 0.1"
    ((entry),) = check("emodb", root)["problems"]["short"]
    assert entry["file"] == "wav/03a01Wa.wav"
    assert entry["reason"].startswith(reason)
    assert not check("emodb", root, shortest=0)["problems"]["short"]
    corpus, cache = corpora.load("emodb", root), tmp_path / "cache"
    for _ in range(2):  # measured, and from the index
        with pytest.raises(InputError, match="1 of 7 files of EmoDB are damaged"):
            prepare(corpus, SHORT, cache_dir=cache)
        prepared = prepare(corpus, SHORT, cache_dir=cache, skip_damaged=True)
        assert [name for name, _ in prepared.skipped] == ["wav/03a01Wa"]
        assert prepared.skipped[0][1].startswith(reason)
        assert len(prepared.waveforms) == 6
    loose = AudioSettings(seconds=0.1, shortest=1e-5)
    assert len(prepare(corpus, loose, cache_dir=cache).waveforms) == 7
    with pytest.raises(InputError, match="shortest nan s is no length"):
        AudioSettings(shortest=float("nan"))


def test_a_shortest_length_leaves_fingerprints_as_they_were(tmp_path):
    corpus = corpora.load("emodb", miniature.emodb(tmp_path / "emodb", speakers=("03",)))
    prints = {
        prepare(corpus, AudioSettings(seconds=0.1, shortest=s), cache_dir=tmp_path).fingerprint
        for s in (0.0, 0.1)
    }
    assert len(prints) == 1


def test_samples_beyond_full_scale_are_counted_and_named(tmp_path):
    root = miniature.emodb(tmp_path / "emodb", speakers=("03",))
    x = np.full(1600, 0.25, np.float32)
    x[:3] = 1.5, -20_000, 1.0
    soundfile.write(root / "wav" / "03a01Wa.wav", x, 16_000, subtype="FLOAT")
    reason = "2 of 1,600 samples are beyond full scale (peak 20,000)"
    report = check("emodb", root)
    assert report["problems"]["too-loud"] == [{"file": "wav/03a01Wa.wav", "reason": reason}]
    assert "1 too-loud" in report_text(report).splitlines()[-1]
    corpus = corpora.load("emodb", root)
    for _ in range(2):  # measured, and from the index
        prepared = prepare(corpus, SHORT, cache_dir=tmp_path / "cache")
        assert prepared.clipped == (("wav/03a01Wa", reason),)
        assert prepared.corpus.notes[-1] == (
            "2 samples beyond full scale (peak 20,000) were clipped in 1 of 7 files of EmoDB: "
            "wav/03a01Wa"
        )


@pytest.mark.parametrize("name", ["wav/03a01Fa", "Übung/grün.2", "a b/c", "x" * 200])
def test_most_ids_are_the_paths_of_their_files(name):
    assert str(file_of_id(name)) == name


def test_every_id_has_a_file_of_its_own_within_the_folder(tmp_path):
    ids = [
        "/data/a", "data/a", "../data/a", "data/../a", "a/./b", "a//b", "a/b", "..", ".", "/", "",
        r"b\c", "b_c", "b\nc", "é" * 150, "é" * 151, "a/" + "x" * 201, "a\0b", "\udcfc", "...",
        f"{tmp_path}/d", "/",
    ]  # fmt: skip
    files = {file_of_id(name) for name in ids}
    assert len(files) == len(set(ids))
    for file in files:
        path = tmp_path / "out" / file.with_name(f"{file.name}.wav")
        assert path.resolve().is_relative_to(tmp_path / "out")
        audio.write_wav(path, np.zeros(4, np.float32), 8_000)
