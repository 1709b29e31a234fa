"""One part of a corpus in one call, and which class of a victim its labels are."""

from pathlib import Path
from typing import Any

import miniature
import numpy as np
import pytest
import small_victims
import soundfile

from jaxser.corpora import get_spec, load_split
from jaxser.corpora.label_matching import match_labels
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

EMODB = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")


def hearer(labels: tuple[str, ...], samples: int = 800, rate: int = 8_000) -> Victim:
    plain = small_victims.small_victim("linear")
    return Victim(plain.apply, plain.variables, labels, (samples,), sample_rate=rate)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"root": miniature.emodb(tmp_path / "emodb"), "cache_dir": tmp_path / "cache"}


def test_a_part_of_a_corpus_in_one_call(settings: dict[str, Any]) -> None:
    speech = load_split("emodb", part="test", seconds=0.2, **settings)
    assert speech.x.shape == (len(speech.ids), 3_200)
    assert speech.x.dtype == np.float32
    tested = get_spec("emodb").standard_split
    assert set(speech.speakers) == set(tested.test) & {"03", "08", "12", "14"}
    assert len(speech.y) == len(speech.genders) == len(speech.speakers) == len(speech.x)
    # The sample and the label of a file are those of its id.
    place = speech.ids.index(next(i for i in speech.ids if "Wa" in i))
    assert speech.labels[speech.y[place]] == "anger"
    file = soundfile.read(settings["root"] / f"{speech.ids[place]}.wav", dtype="float32")[0]
    np.testing.assert_array_equal(speech.x[place, : len(file)], file)
    x, y, ids, *_ = speech
    assert x is speech.x
    assert y is speech.y
    assert ids is speech.ids
    assert repr(speech).count("\n") == 0
    assert len(repr(speech)) < 200


def test_the_victim_says_length_rate_and_classes(settings: dict[str, Any]) -> None:
    victim = hearer(("hap", "ang", "neu", "sad"))
    speech = load_split("emodb", part="test", victim=victim, **settings)
    assert speech.x.shape[1] == 800
    assert set(speech.y.tolist()) <= {0, 1, 2, 3}
    by_id = dict(zip(speech.ids, speech.y.tolist(), strict=True))
    codes = {"F": 0, "W": 1, "N": 2, "T": 3}
    assert all(codes[name[-2]] == label for name, label in by_id.items())
    assert any("left out" in note and "boredom" in note for note in speech.notes)
    few = load_split("emodb", part="test", victim=victim, limit=2, **settings)
    assert len(few.x) == 2
    mapped = load_split("emodb", part="test", victim=victim, labels=["neu=boredom"], **settings)
    assert any(name[-2] == "L" for name in mapped.ids)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"part": "tset"}, "did you mean 'test'"),
        ({"secnds": 1}, "did you mean 'seconds'"),
        ({"protocol": "Paper"}, "protocol = 'Paper' in load_split is not valid"),
        ({"seconds": "long"}, "seconds = 'long' in load_split is not valid"),
        ({"limit": -3}, "limit = -3 in load_split is not valid"),
        ({"limit": 0}, "limit = 0 in load_split is not valid"),
        ({"limit": 2.5}, "limit = 2.5 in load_split is not valid"),
        ({"victim": hearer(("x", "y"))}, "none of x, y"),
        ({"victim": hearer(("ang", "hap")), "seconds": 1}, "leave it out"),
        ({"labels": ["ang=anger"]}, "give victim, too"),
        ({"victim": small_victims.small_victim("spectrogram")}, "domain waveform"),
    ],
)
def test_mistakes_are_a_sentence(
    settings: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load_split("emodb", **{**settings, **changes})


# --- labels -----------------------------------------------------------------------------------


def test_labels_by_name_by_case_and_by_abbreviation() -> None:
    found = match_labels(("neu", "hap", "Anger", "sad"), EMODB)
    assert found.classes == {"anger": 2, "happiness": 1, "neutral": 0, "sadness": 3}
    assert found.strange == ("boredom", "disgust", "fear")
    assert found.told() == "Anger=anger hap=happiness neu=neutral sad=sadness"
    assert match_labels(EMODB, EMODB).told() == ""


def test_what_could_be_two_is_none() -> None:
    assert match_labels(("sur", "surprise_positive"), ("surprise", "x")).strange == (
        "surprise",
        "x",
    )
    # Two labels that begin as one class does, one of which is it by name.
    found = match_labels(("calm", "cal"), ("calm", "calmness"))
    assert found.classes["calm"] == 0
    assert match_labels(("an", "b"), ("anger", "bored")).classes == {}
    # Both would be the same class.
    assert match_labels(("sad",), ("sadness", "sadder")).classes == {}


def test_pairs_come_first_and_may_share_a_class() -> None:
    found = match_labels(("ang", "hap"), EMODB, ("hap=boredom", "hap=happiness"))
    assert found.classes == {"anger": 0, "boredom": 1, "happiness": 1}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (("anger",), "VICTIM=CORPUS"),
        (("anger=ang",), "the victim has no label 'anger'; did you mean 'ang'"),
        (("ang=angr",), "the corpus has no label 'angr'; did you mean 'anger'"),
        (("ang=anger", "hap=anger"), "two classes"),
    ],
)
def test_pairs_that_are_none(pairs: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        match_labels(("ang", "hap"), EMODB, pairs)
