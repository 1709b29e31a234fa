"""Every corpus is read from its official layout, with the quirks of its release."""

import dataclasses
from collections import Counter
from pathlib import Path

import miniature
import pytest

from jaxser import corpora
from jaxser.runtime.errors import InputError, UsageError


def labels_of(corpus):
    return dict(Counter(u.label for u in corpus.utterances))


def facts(corpus, utterance_id):
    (found,) = (u for u in corpus.utterances if u.id == utterance_id)
    return found.label, found.speaker, found.gender


def test_every_registered_corpus_declares_itself():
    assert corpora.names() == (
        "emodb", "emovo", "ravdess", "iemocap", "demos", "emo_iit", "csv", "synthetic",
    )  # fmt: skip
    for name in corpora.names():
        spec = corpora.get_spec(name)
        assert spec.name == name
        assert spec.title
        assert set(spec.official_counts) <= {*spec.labels, *spec.other_labels}
        assert spec.recognises is None or spec.layout


def test_official_numbers():
    def total(name):
        spec = corpora.get_spec(name)
        return sum(spec.official_counts[label] for label in spec.labels)

    assert [total(n) for n in ("emodb", "emovo", "ravdess", "iemocap", "demos")] == [
        535, 588, 1440, 5531, 9365,
    ]  # fmt: skip


# EmoDB


def test_emodb_is_read_from_its_root_its_wav_folder_and_above(tmp_path):
    root = miniature.emodb(tmp_path / "above" / "emodb")
    (root / "erkennung.txt").write_bytes("Satz\xa0erkannt 97,5".encode("latin-1"))
    for given in (root, str(root), root / "wav", tmp_path / "above", tmp_path):
        corpus = corpora.load("emodb", given)
        assert len(corpus.utterances) == 28
        assert corpus.utterances[0].id == "wav/03a01Aa"
    assert corpus.labels == (
        "anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness",
    )  # fmt: skip
    assert facts(corpus, "wav/03a01Wa") == ("anger", "03", "male")
    assert facts(corpus, "wav/14a01Ta") == ("sadness", "14", "female")
    assert corpus.notes == ("28 of the 535 utterances of EmoDB",)
    assert corpus.label_index(corpus.utterances[0]) == 3


def test_emodb_files_with_other_names_are_left_out(tmp_path):
    root = miniature.emodb(tmp_path)
    for name in ("01a01Fa.wav", "03a03Fa.wav", "03a01Xa.wav", "._03a01Fa.wav", "song.wav"):
        miniature.write_noise(root / "wav" / name)
    corpus = corpora.load("emodb", root)
    assert len(corpus.utterances) == 28
    assert corpus.notes[1] == "4 stray files left out of EmoDB"
    reasons = {f.path.name: f.reason for f in corpora.get_spec("emodb").left_out(root)}
    assert reasons["03a01Xa.wav"] == "emotion X is not one of WLEAFNT"


def test_real_emodb(emodb_root):
    corpus = corpora.load("emodb", emodb_root)
    assert labels_of(corpus) == dict(corpora.get_spec("emodb").official_counts)
    genders = {u.speaker: u.gender for u in corpus.utterances}
    assert sorted(s for s, g in genders.items() if g == "male") == ["03", "10", "11", "12", "15"]
    assert corpus.notes == ()
    assert [u.id for u in corpus.utterances] == sorted(u.id for u in corpus.utterances)


# EMOVO


def test_emovo(tmp_path):
    corpus = corpora.load("emovo", miniature.emovo(tmp_path))
    assert labels_of(corpus) == dict.fromkeys(corpus.labels, 6)
    assert facts(corpus, "f1/tri-f1-b1") == ("sadness", "f1", "female")
    assert facts(corpus, "m3/gio-m3-b1") == ("happiness", "m3", "male")


def test_emovo_reports_misplaced_and_unknown_files(tmp_path):
    root = miniature.emovo(tmp_path)
    for name in ("f1/dis-f2-b2.wav", "f1/dis-f1-b9.wav", "f1/xxx-f1-b1.wav"):
        miniature.write_noise(root / name)
    kinds = {f.path.name: f.kind for f in corpora.get_spec("emovo").left_out(root)}
    assert kinds == {
        "dis-f2-b2.wav": "misplaced", "dis-f1-b9.wav": "stray", "xxx-f1-b1.wav": "stray",
    }  # fmt: skip
    assert len(corpora.load("emovo", root).utterances) == 42


def test_real_emovo(emovo_root):
    corpus = corpora.load("emovo", emovo_root)
    assert labels_of(corpus) == dict.fromkeys(corpus.labels, 12)


# RAVDESS


def test_ravdess(tmp_path):
    corpus = corpora.load("ravdess", miniature.ravdess(tmp_path))
    assert labels_of(corpus) == dict.fromkeys(corpus.labels, 24)
    assert facts(corpus, "Actor_01/03-01-06-01-01-01-01") == ("fear", "01", "male")
    assert facts(corpus, "Actor_24/03-01-02-01-01-01-24") == ("calm", "24", "female")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("Actor_05/03-01-05-01-01-01-02.wav", "misplaced", "the name says actor 02"),
        ("Actor_05/03-02-05-01-01-01-05.wav", "stray", "not audio-only speech"),
        ("Actor_05/03-01-09-01-01-01-05.wav", "stray", "emotion 09"),
        ("Actor_05/03-01-01-02-01-01-05.wav", "stray", "no intensity 02 of emotion 01"),
        ("Actor_05/03-01-05-01-03-01-05.wav", "stray", "no statement 03"),
        ("Actor_25/03-01-05-01-01-01-25.wav", "stray", "actor 25"),
        ("Actor_05/angry.wav", "stray", "seven numbers"),
    ],
)
def test_ravdess_files_that_do_not_belong_are_never_trained_on(tmp_path, name, kind, reason):
    root = miniature.ravdess(tmp_path, actors=(1, 2, 5))
    miniature.write_noise(root / name)
    corpus = corpora.load("ravdess", root)
    assert len(corpus.utterances) == 24
    assert f"1 {kind} file left out of RAVDESS" in corpus.notes
    (found,) = corpora.get_spec("ravdess").left_out(root)
    assert (found.path, found.kind) == (root / name, kind)
    assert reason in found.reason


def test_a_mirror_that_holds_every_actor_twice_is_read_once(tmp_path):
    root = miniature.ravdess(tmp_path, actors=(1, 2))
    miniature.ravdess(tmp_path / "audio_speech_actors_01-24", actors=(1, 2, 3))
    corpus = corpora.load("ravdess", root)
    # Actor 3 is only in the inner copy.
    assert len(corpus.utterances) == 24
    outer = root / "Actor_01" / "03-01-01-01-01-01-01.wav"
    assert corpus.utterances[0].path == outer
    assert "16 copied files left out of RAVDESS" in corpus.notes


def test_ids_do_not_depend_on_the_folder_a_mirror_adds(tmp_path):
    plain = corpora.load("ravdess", miniature.ravdess(tmp_path / "a"))
    nested = corpora.load("ravdess", miniature.ravdess(tmp_path / "b" / "archive").parent)
    assert [u.id for u in plain.utterances] == [u.id for u in nested.utterances]


def test_one_actor_is_not_taken_for_the_corpus(tmp_path):
    root = miniature.ravdess(tmp_path)
    with pytest.raises(InputError, match="is not laid out as RAVDESS"):
        corpora.load("ravdess", root / "Actor_01")


def test_real_ravdess(ravdess_root):
    corpus = corpora.load("ravdess", ravdess_root)
    assert len(corpus.utterances) == 198
    assert "1 misplaced file left out of RAVDESS" in corpus.notes
    stray = ravdess_root / "Actor_05" / "03-01-05-01-01-01-02.wav"
    assert stray.exists()
    assert stray not in {u.path for u in corpus.utterances}


# IEMOCAP


@pytest.fixture(scope="module")
def iemocap_root(tmp_path_factory):
    return miniature.iemocap(tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release")


def test_iemocap_has_the_four_classes_of_the_literature(iemocap_root):
    corpus = corpora.load("iemocap", iemocap_root)
    assert labels_of(corpus) == {
        "anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084,
    }  # fmt: skip
    assert len(corpus.utterances) == 5531
    assert corpus.notes == ()
    assert len(corpora.get_spec("iemocap").read(iemocap_root)) == 10_039


def test_iemocap_speakers_are_who_speaks_not_who_wears_the_markers(iemocap_root):
    corpus = corpora.load("iemocap", iemocap_root)
    assert len({u.speaker for u in corpus.utterances}) == 10
    for utterance in corpus.utterances:
        letter = utterance.id.rsplit("_", 1)[1][0]
        assert utterance.speaker.endswith(letter)
        assert utterance.gender == {"F": "female", "M": "male"}[letter]
    wearers = {u.id.split("/")[-1][:6] for u in corpus.utterances if u.speaker == "Ses01M"}
    assert wearers == {"Ses01F", "Ses01M"}


def test_iemocap_paths_follow_the_release(iemocap_root):
    utterance = corpora.load("iemocap", iemocap_root).utterances[0]
    assert utterance.path.relative_to(iemocap_root) == Path(f"{utterance.id}.wav")
    parts = utterance.path.relative_to(iemocap_root).parts
    assert parts[:3] == ("Session1", "sentences", "wav")
    assert parts[3] == parts[4].rsplit("_", 1)[0]
    assert utterance.group == "Session1"


def test_iemocap_other_classes_can_be_asked_for(iemocap_root):
    corpus = corpora.load("iemocap", iemocap_root, labels=("other", "neutral"))
    assert corpus.labels == ("other", "neutral")
    assert labels_of(corpus) == {"other": 4508, "neutral": 1708}
    assert corpus.notes == ()  # nobody counted "other" officially


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "[6.2 - 8.2]\tSes01F_impro09_F000\tjoy\t[2.5, 2.5, 2.5]",
            "line 1: label 'joy' is not one",
        ),
        (
            "[6.2 - 8.2]\tSes02F_impro09_F000\tneu\t[2.5, 2.5, 2.5]",
            "not the name of a turn of Sess",
        ),
    ],
)
def test_iemocap_names_the_line_with_a_wrong_turn(tmp_path, line, message):
    root = miniature.iemocap(tmp_path, {"Session1": {"ang": 4, "neu": 4}})
    (root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro09.txt").write_text(line)
    with pytest.raises(InputError, match=message):
        corpora.load("iemocap", root)


def test_iemocap_sentences_without_a_label_are_stray(tmp_path):
    root = miniature.iemocap(tmp_path, {"Session1": {"ang": 4, "neu": 4}}, with_audio=True)
    wav = root / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    miniature.write_noise(wav / "Ses01F_impro01_F999.wav")
    miniature.write_noise(wav / "._Ses01F_impro01_F000.wav")
    (stray,) = corpora.get_spec("iemocap").left_out(root)
    assert stray.path.name == "Ses01F_impro01_F999.wav"


# DEMoS


DEMOS_FILES = [
    "DEMOS/PR_f_23_tri00a.wav", "DEMOS/NP_m_1_rab03b.wav", "DEMOS/PR_m_69_col01.wav",
    "DEMOS/NP_f_02_dis00a.wav", "DEMOS/NP_f_02_gio00a.wav", "DEMOS/NP_f_02_pau05b.wav",
    "DEMOS/NP_f_02_sor00a.wav", "NEU/m_34_neu03b.wav",
]  # fmt: skip


def test_demos_names_are_read_from_the_right(tmp_path):
    root = miniature.write_all(tmp_path / "wav_DEMoS", DEMOS_FILES)
    corpus = corpora.load("demos", root)
    assert len(corpus.utterances) == 7  # without neutral
    assert facts(corpus, "DEMOS/PR_f_23_tri00a") == ("sadness", "23", "female")
    assert facts(corpus, "DEMOS/NP_m_1_rab03b") == ("anger", "01", "male")
    assert {u.group for u in corpus.utterances} == {"PR", "NP"}
    everything = corpora.load("demos", root, labels=(*corpus.labels, "neutral"))
    assert facts(everything, "NEU/m_34_neu03b") == ("neutral", "34", "male")


def test_demos_has_no_speaker_35(tmp_path):
    root = miniature.write_all(tmp_path, [*DEMOS_FILES, "DEMOS/NP_m_35_rab00a.wav"])
    (stray,) = corpora.get_spec("demos").left_out(root)
    assert stray.reason == "there is no speaker 35"


# Emo-IIT


IIT_FILES = [
    "anger/B303fJa.wav",
    "neutral/b5112Na.wav",
    "sadness/B5113Ta.wav",
    "irritation/B303Ia.wav",
]


def test_emo_iit_by_emotion(tmp_path):
    corpus = corpora.load("emo_iit", miniature.write_all(tmp_path, IIT_FILES))
    assert [(u.id, u.speaker, u.gender) for u in corpus.utterances] == [
        ("anger/B303fJa", "b303", "unknown"),
        ("neutral/b5112Na", "b5112", "unknown"),
        ("sadness/B5113Ta", "b5113", "unknown"),
    ]


def test_emo_iit_by_gender_and_emotion(tmp_path):
    names = [
        f"{g}/{n}" for g, n in zip(("male", "female", "male", "female"), IIT_FILES, strict=True)
    ]
    corpus = corpora.load("emo_iit", miniature.write_all(tmp_path, names))
    assert [(u.id, u.gender) for u in corpus.utterances] == [
        ("anger/B303fJa", "male"), ("neutral/b5112Na", "female"), ("sadness/B5113Ta", "male"),
    ]  # fmt: skip


# CSV


def write_csv(folder, text, name="table.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_csv_by_file_and_by_folder(tmp_path):
    table = write_csv(
        tmp_path / "mine",
        "\ufefffile,label,speaker,gender,split\n"
        'wav/a.wav,"sad, a bit",s1,F,train\n'
        "../b.flac,glad,s2,male,test\n/data/c.wav,glad,s1,,val\n",
    )
    for root in (table, table.parent):
        corpus = corpora.load("csv", root)
        assert corpus.labels == ("glad", "sad, a bit")
        assert [u.id for u in corpus.utterances] == ["../b", "/data/c", "wav/a"]
        assert [u.split for u in corpus.utterances] == ["test", "val", "train"]
        assert [u.gender for u in corpus.utterances] == ["male", "unknown", "female"]
        assert corpus.utterances[0].path == table.parent / "../b.flac"
        assert corpus.utterances[1].path == Path("/data/c.wav")


def test_csv_in_the_current_folder_has_a_title(tmp_path, monkeypatch):
    write_csv(tmp_path / "mine", "label,file\nx,a.wav\ny,b.wav\n")
    monkeypatch.chdir(tmp_path / "mine")
    assert corpora.load("csv", ".").title == "mine"
    assert corpora.load("csv", "table.csv").title == "table"


def test_csv_needs_only_two_columns(tmp_path):
    corpus = corpora.load("csv", write_csv(tmp_path, "label,file\nx,a.wav\ny,b.wav\n"))
    assert [(u.label, u.speaker) for u in corpus.utterances] == [("x", "unknown"), ("y", "unknown")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label\na.wav;x\n", r"line 1: column 'file;label' is not expected; use file,label,"),
        ("file,emotion\na.wav,x\n", "line 1: column 'emotion' is not expected"),
        ("file,speaker\na.wav,x\n", "line 1: there is no column 'label'"),
        ("file,label,speakr\na.wav,x,s\n", "line 1: column 'speakr' is not expected"),
        ("file,label,Gender\na.wav,x,f\n", "line 1: column 'Gender' is not expected"),
        ("file,label,\na.wav,x,f\n", "line 1: column '' is not expected"),
        ("file,label,age,age\na.wav,x,3,4\n", "line 1: column 'age' is not expected"),
        ("file,file,label\na.wav,b.wav,x\n", "line 1: column 'file' is not expected"),
        ("file,label\na.wav,x\nb.wav\n", "line 3: the header has 2 fields"),
        ("file,label\na.wav,x\nb.wav,y,z\n", "line 3: the header has 2 fields"),
        ("file,label\na.wav,x\n,y\n", "line 3: file is empty"),
        ("file,label\na.wav,x\nb.wav, \n", "line 3: label is empty"),
        ("file,label\na.wav,x\nb.wav,y\na.wav,y\n", "line 4: the file 'a.wav' is also in line 2"),
        (
            "file,label,gender\na.wav,x,w\n",
            "line 2: gender 'w' is not one of female, male, unknown",
        ),
        ("file,label,split\na.wav,x,dev\n", "line 2: split 'dev' is not one of train, val, test"),
        ("file,label\n", "holds a header and no line under it"),
        ("", "line 1: there is no column 'file'"),
        (
            "file,label\na.wav,x\nb.wav,x\n",
            "two different labels are needed, but .*table.csv has only x",
        ),
    ],
)
def test_csv_mistakes_are_named_by_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        corpora.load("csv", write_csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_csv_keeps_columns_of_ones_own_and_names_them_once(tmp_path, caplog):
    text = "file,label,age,valence\na.wav,x,31,0.5\nb.wav,y,,-1\n"
    for _ in range(2):
        corpus = corpora.load("csv", write_csv(tmp_path, text))
    first, second = corpus.utterances
    assert dict(first.further) == {"age": "31", "valence": "0.5"}
    assert dict(second.further) == {"age": "", "valence": "-1"}
    assert [
        record.message.endswith("mean nothing here: age, valence.") for record in caplog.records
    ] == [True]


def test_a_split_has_no_columns_of_ones_own(tmp_path):
    corpus = corpora.load("csv", write_csv(tmp_path, "file,label\na.wav,x\nb.wav,y\n"))
    (tmp_path / "split.txt").write_text("id,split,age\na,train,3\nb,test,4\n")
    with pytest.raises(InputError, match="column 'age' is not expected"):
        corpora.assign_split(corpus, "csv", file=tmp_path / "split.txt")


def test_csv_that_is_not_text_or_not_one_file(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"file,label\n\xff\xfe,x\n")
    with pytest.raises(InputError, match="not UTF-8"):
        corpora.load("csv", tmp_path)
    write_csv(tmp_path, "file,label\n", "b.csv")
    with pytest.raises(InputError, match=r"exactly one CSV file, but holds a\.csv, b\.csv"):
        corpora.load("csv", tmp_path)
    with pytest.raises(InputError, match="there is no file or folder"):
        corpora.load("csv", tmp_path / "absent")


# What every corpus refuses


def test_wrong_roots_give_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    miniature.ravdess(tmp_path / "ravdess", actors=(1,))
    for root, message in [
        ("absent", "there is no folder"),
        ("empty", "is empty"),
        ("file", "is a file"),
        ("ravdess", "is not laid out as EmoDB .* it looks like RAVDESS, corpus name 'ravdess'"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            corpora.load("emodb", tmp_path / root)
        assert str(tmp_path / root) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_folder_with_the_corpus_twice_is_ambiguous(tmp_path):
    miniature.emodb(tmp_path / "a")
    miniature.emodb(tmp_path / "b")
    with pytest.raises(InputError, match="holds EmoDB more than once"):
        corpora.load("emodb", tmp_path)


def test_unknown_corpus_option_and_label(tmp_path):
    root = miniature.emodb(tmp_path)
    with pytest.raises(UsageError, match="no corpus 'emo_db'; did you mean 'emodb'"):
        corpora.load("emo_db", root)
    with pytest.raises(UsageError, match="takes no option 'sed'"):
        corpora.load("emodb", root, sed=1)
    with pytest.raises(InputError, match="no label 'angry'; did you mean 'anger'"):
        corpora.load("emodb", root, labels=("angry", "neutral"))
    with pytest.raises(InputError, match="at least two different labels"):
        corpora.load("emodb", root, labels=("anger",))


def test_labels_select_and_order_the_classes(tmp_path):
    corpus = corpora.load("emodb", miniature.emodb(tmp_path), labels=("sadness", "anger"))
    assert corpus.labels == ("sadness", "anger")
    assert labels_of(corpus) == {"sadness": 4, "anger": 4}
    assert corpus.notes == ("8 of the 189 utterances of EmoDB",)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(InputError, match=f"{tmp_path} may not be read"):
        corpora.load("emodb", tmp_path)


def test_the_table_is_frozen(tmp_path):
    corpus = corpora.load("emodb", miniature.emodb(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.title = "other"
