"""Named splits: their counts, what they keep apart, and what they say of leaks."""

import dataclasses
import logging
from collections import Counter
from pathlib import Path

import miniature
import numpy as np
import pytest

from jaxser import corpora
from jaxser.corpora import assign_split, read_split, splits, write_split
from jaxser.corpora.table import Corpus, Utterance
from jaxser.runtime.errors import InputError, UsageError


def speakers(corpus, part):
    return {u.speaker for u in corpus.utterances if u.split == part}


def sizes(corpus):
    counts = Counter(u.split for u in corpus.utterances)
    return counts["train"], counts["val"], counts["test"]


def table(rows, labels=("anger", "neutral"), name="csv"):
    """A corpus of (speaker, gender, label[, count]) rows."""
    utterances = [
        Utterance(f"{speaker}/{label}/{i}", Path("x.wav"), label, speaker, gender)
        for speaker, gender, label, *count in rows
        for i in range(*(count or [1]))
    ]
    return Corpus(name, "Table", "none", labels, Path(), tuple(utterances))


def balanced_table(pairs=10, each=5):
    return table(
        [
            (f"{gender[0]}{i:02d}", gender, label, each)
            for gender in ("female", "male")
            for i in range(pairs)
            for label in ("anger", "neutral")
        ]
    )


@pytest.fixture(scope="module")
def emodb(tmp_path_factory):
    root = miniature.emodb(
        tmp_path_factory.mktemp("emodb"),
        speakers=("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"),
    )
    return corpora.load("emodb", root)


def test_standard_emodb_split_is_the_one_in_wide_use(emodb):
    for seed in (0, 7):
        corpus = assign_split(emodb, seed=seed)
        assert speakers(corpus, "train") == {"03", "08", "09", "10", "11", "13"}
        assert speakers(corpus, "test") == {"12", "14", "15", "16"}
        assert speakers(corpus, "val") == set()
    assert emodb.utterances[0].split is None


def test_standard_ravdess_and_emovo_splits_are_balanced(tmp_path):
    for name, make, shares in [
        ("ravdess", miniature.ravdess, (16, 4, 4)),
        ("emovo", miniature.emovo, (4, 0, 2)),
    ]:
        corpus = assign_split(corpora.load(name, make(tmp_path / name)))
        assert tuple(len(speakers(corpus, p)) for p in ("train", "val", "test")) == shares
        for part, share in zip(("train", "val", "test"), shares, strict=True):
            women = {
                u.speaker for u in corpus.utterances if (u.split, u.gender) == (part, "female")
            }
            assert len(women) == share // 2


def test_real_emodb_standard_split(emodb_root):
    assert sizes(assign_split(corpora.load("emodb", emodb_root))) == (304, 0, 231)


@pytest.mark.parametrize("name", ["standard", "iemocap_sessions"])
def test_iemocap_sessions_are_those_of_staa_net(tmp_path_factory, name):
    root = miniature.iemocap(tmp_path_factory.mktemp("iemocap"))
    corpus = assign_split(corpora.load("iemocap", root), name)
    assert sizes(corpus) == (3349, 1031, 1151)
    counts = Counter((u.split, u.label) for u in corpus.utterances)
    # Table 1 of STAA-Net, in the order happiness, sadness, anger, neutral.
    for part, expected in {
        "train": (1047, 636, 536, 1130), "val": (303, 143, 327, 258), "test": (286, 305, 240, 320),
    }.items():  # fmt: skip
        labels = ("happiness", "sadness", "anger", "neutral")
        assert tuple(counts[part, label] for label in labels) == expected
    assert {u.group for u in corpus.utterances if u.split == "train"} == {
        "Session1", "Session2", "Session5",
    }  # fmt: skip
    assert not any("leaky" in note for note in corpus.notes)


def demos_table():
    """The official classes by 68 speakers, 23 of them women, in turn."""
    spec = corpora.get_spec("demos")
    numbers = [n for n in range(1, 70) if n != 35]
    rows = []
    for place, number in enumerate(numbers):
        for label in spec.labels:
            count = spec.official_counts[label]
            share = count // 68 + (place < count % 68)
            rows.append((f"{number:02d}", "female" if place % 3 == 0 else "male", label, share))
    return table(rows, spec.labels, "demos")


@pytest.mark.parametrize("seed", [0, 1])
def test_demos_is_split_40_30_30_by_speaker(seed):
    corpus = assign_split(demos_table(), "demos_40_30_30", seed=seed)
    shares = np.array(sizes(corpus)) / 9365
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.3], atol=0.02)
    parts = [speakers(corpus, part) for part in ("train", "val", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 68
    women = {u.speaker for u in corpus.utterances if u.gender == "female"}
    assert [len(part & women) for part in parts] == [9, 7, 7]
    standard = assign_split(demos_table(), seed=seed)
    assert standard.utterances == assign_split(demos_table(), "demos_40_30_30").utterances


def test_speaker_split_is_disjoint_balanced_and_seeded():
    corpus = balanced_table()
    for seed in range(5):
        split = assign_split(corpus, "speaker", seed=seed)
        assert sizes(split) == (120, 40, 40)
        parts = [speakers(split, part) for part in ("train", "val", "test")]
        assert [sum(s.startswith("f") for s in part) for part in parts] == [6, 2, 2]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 20
        assert split.utterances == assign_split(corpus, "speaker", seed=seed).utterances
        assert split.notes == ()
    tests = {frozenset(speakers(assign_split(corpus, "speaker", seed=s), "test")) for s in range(5)}
    assert len(tests) > 1


def test_speaker_split_takes_fractions():
    split = assign_split(balanced_table(), "speaker", fractions=(0.5, 0.0, 0.5))
    assert sizes(split) == (100, 0, 100)
    for fractions in ((0.5, 0.5), (0.9, 0.3, -0.2), (0.5, 0.2, 0.2)):
        with pytest.raises(UsageError, match="three shares"):
            assign_split(balanced_table(), "speaker", fractions=fractions)
    with pytest.raises(UsageError, match="belong to the split 'speaker'"):
        assign_split(balanced_table(), "loso", fractions=(0.6, 0.2, 0.2))


def test_speaker_split_looks_for_one_with_every_class_in_every_part():
    # Only three of eight speakers are ever angry: most shuffles leave a part without anger.
    rows = [(f"s{i}", "unknown", "neutral", 4) for i in range(8)]
    rows += [(f"s{i}", "unknown", "anger", 4) for i in (1, 4, 6)]
    for seed in range(10):
        split = assign_split(table(rows), "speaker", seed=seed)
        for part in ("train", "val", "test"):
            assert {u.label for u in split.utterances if u.split == part} == {"anger", "neutral"}


@pytest.mark.parametrize(
    ("name", "expected"), [("random_64_16_20", (128, 32, 40)), ("random_80_20", (160, 0, 40))]
)
def test_random_splits_are_stratified_and_say_that_they_leak(name, expected, caplog):
    splits.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="jaxser.corpora"):
        split = assign_split(balanced_table(), name, seed=3)
        assign_split(balanced_table(), name, seed=3)
    assert sizes(split) == expected
    counts = Counter((u.split, u.label) for u in split.utterances)
    assert counts["test", "anger"] == counts["test", "neutral"] == 20
    (note,) = split.notes
    shared = len(speakers(split, "test"))
    assert note == (
        f"leaky split: {name} has {shared} of {shared} test speakers in training too, so results "
        "are optimistic"
    )
    assert [record.getMessage() for record in caplog.records] == [f"Table: {note}."]


def test_a_new_split_forgets_what_the_old_one_leaked():
    leaky = assign_split(balanced_table(), "random_80_20")
    assert assign_split(leaky, "speaker").notes == ()


def test_kfold_tests_every_speaker_once():
    corpus = balanced_table(pairs=5)
    tested = []
    for fold in range(5):
        split = assign_split(corpus, "kfold", fold=fold, folds=5)
        parts = [speakers(split, part) for part in ("train", "val", "test")]
        assert [len(part) for part in parts] == [6, 2, 2]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert {s[0] for s in parts[2]} == {"f", "m"}
        assert parts[1] == speakers(assign_split(corpus, "kfold", fold=(fold + 1) % 5), "test")
        tested += sorted(parts[2])
    assert sorted(tested) == sorted({u.speaker for u in corpus.utterances})
    two = assign_split(corpus, "kfold", fold=1, folds=2)
    assert speakers(two, "val") == set()
    assert len(speakers(two, "test")) == 5


def test_kfold_and_loso_refuse_folds_that_do_not_exist(emodb):
    with pytest.raises(UsageError, match="has 10 speakers, so ask for 2 to 10"):
        assign_split(emodb, "kfold", folds=11)
    with pytest.raises(UsageError, match="fold 5 is not one of 0 to 4"):
        assign_split(emodb, "kfold", fold=5)
    with pytest.raises(UsageError, match="give 0 to 9"):
        assign_split(emodb, "loso", fold=10)


def test_loso_leaves_out_one_speaker(emodb):
    assert [speakers(assign_split(emodb, "loso", fold=i), "test") for i in (0, 9)] == [
        {"03"},
        {"16"},
    ]
    assert len(speakers(assign_split(emodb, "loso", fold=4), "train")) == 9


def test_split_files_round_trip(tmp_path, emodb):
    split = assign_split(emodb, "speaker", seed=1)
    write_split(split, tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text().startswith("id,split\nwav/03a01Aa,")
    assert read_split(tmp_path / "split.csv") == {u.id: u.split for u in split.utterances}
    assert assign_split(emodb, "csv", file=tmp_path / "split.csv").utterances == split.utterances
    with pytest.raises(InputError, match="has no split to write"):
        write_split(emodb, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,part\na,train\n", "line 1: column 'part'"),
        ("id,split\nwav/03a01Aa,dev\n", "line 2: split 'dev' is not one of train, val, test"),
        ("id,split\na,train\na,test\n", "line 3: a is in two parts"),
        ("id,split\nwav/03a01Aa,train\n", "no line for 69 of the 70 utterances of EmoDB"),
    ],
)
def test_wrong_split_files_are_named(tmp_path, emodb, text, message):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        assign_split(emodb, "csv", file=tmp_path / "split.csv")


@pytest.mark.parametrize("name", ["absent.csv", "x" * 300, "a\0b", "."])
def test_a_split_file_that_is_none(tmp_path, name):
    with pytest.raises(InputError, match="there is no split file"):
        read_split(tmp_path / name)


def test_csv_split_needs_its_file(tmp_path, emodb):
    with pytest.raises(UsageError, match="needs a file"):
        assign_split(emodb, "csv")
    with pytest.raises(InputError, match="there is no split file"):
        assign_split(emodb, "csv", file=tmp_path / "absent.csv")


def given_table(parts):
    corpus = table([("a", "female", "anger"), ("b", "male", "neutral"), ("a", "female", "neutral"),
                    ("b", "male", "anger")])  # fmt: skip
    return dataclasses.replace(
        corpus,
        utterances=tuple(
            dataclasses.replace(u, split=part)
            for u, part in zip(corpus.utterances, parts, strict=True)
        ),
    )


def test_given_splits_are_kept_and_checked():
    corpus = given_table(["train", "test", "train", "test"])
    for name in ("given", "standard"):
        assert assign_split(corpus, name).utterances == corpus.utterances
    leaky = assign_split(given_table(["train", "train", "test", "test"]), "given")
    assert leaky.notes[0].startswith("leaky split: given has 2 of 2 test speakers")
    with pytest.raises(InputError, match="b/anger/0 of Table is in no part"):
        assign_split(given_table(["train", "test", "train", None]), "given")


def test_a_table_without_a_split_column_is_split_by_speaker():
    corpus = balanced_table()
    assert assign_split(corpus).utterances == assign_split(corpus, "speaker").utterances


def test_unknown_speakers_allow_no_speaker_split():
    rows = [("unknown", "unknown", label, 10) for label in ("anger", "neutral")]
    with pytest.raises(InputError, match="needs two speakers"):
        assign_split(table(rows), "speaker")
    split = assign_split(table(rows), "random_80_20")
    assert split.notes == (
        "leaky split: random_80_20 knows no speakers, so the same ones may be on both sides",
    )


def test_empty_and_one_class_parts_are_refused():
    one_each = [("a", "female", "anger", 5), ("b", "male", "neutral", 5)]
    with pytest.raises(InputError, match="leaves train with the one class anger"):
        assign_split(given_table(["train", "test", "test", "train"]), "given")
    with pytest.raises(InputError, match="leaves val empty"):
        assign_split(
            table([*one_each, ("a", "female", "neutral"), ("b", "male", "anger")]), "speaker"
        )
    with pytest.raises(InputError, match="leaves test with the one class anger"):
        assign_split(table([("a", "female", "anger"), ("b", "male", "neutral", 3),
                            ("b", "male", "anger", 3)]), "loso", fold=0)  # fmt: skip
    with pytest.raises(InputError, match="leaves test empty"):
        assign_split(given_table(["train"] * 4), "given")


def test_a_class_that_is_never_trained_on_is_refused():
    labels = ("anger", "fear", "neutral")
    rows = [(s, "male", label, 3) for s in "abc" for label in ("anger", "neutral")]
    rows.append(("c", "male", "fear", 3))
    with pytest.raises(InputError, match="trains without fear"):
        assign_split(table(rows, labels), "loso", fold=2)


def test_a_class_missing_from_a_test_part_is_a_warning(caplog):
    splits.warn_once.cache_clear()
    labels = ("anger", "fear", "neutral")
    rows = [(s, "male", label, 3) for s in "abc" for label in ("anger", "neutral")]
    rows.append(("c", "male", "fear", 3))
    with caplog.at_level(logging.WARNING, logger="jaxser.corpora"):
        assign_split(table(rows, labels), "loso", fold=0)
    assert [r.getMessage() for r in caplog.records] == [
        "the split 'loso' of Table has no fear in test."
    ]


def test_splits_of_other_corpora_and_unknown_names_are_refused(emodb):
    with pytest.raises(UsageError, match="one of corpus 'iemocap', not of 'emodb'"):
        assign_split(emodb, "iemocap_sessions")
    with pytest.raises(UsageError, match="one of corpus 'demos'"):
        assign_split(emodb, "demos_40_30_30")
    with pytest.raises(UsageError, match="no split 'speakers'; did you mean 'speaker'"):
        assign_split(emodb, "speakers")
