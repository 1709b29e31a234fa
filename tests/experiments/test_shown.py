"""Utterances by the ends of their ids."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaxser.config import AttackCommandConfig
from jaxser.corpora import Utterance
from jaxser.experiments.shown import shown_places
from jaxser.runtime.errors import UsageError

NAMES = ("wav/03a01Fa", "wav/13a01Fa", "wav/03a01Wa", "wav/08a02Ac.0", "wav/08a02Ac.1", "new/u1")


def utterance(name: str, split: Any = "test") -> Utterance:
    whole = name.rpartition(".")[0] if "." in name else ""
    return Utterance(name, Path(f"{name}.wav"), "joy", "s0", split=split, source=whole)


def places(*names: str, attacked: int = len(NAMES)) -> tuple[int, ...]:
    here = [utterance(name) for name in NAMES]
    elsewhere = [utterance("wav/14b01Fc", "train"), utterance("wav/15b01Fc", None)]
    corpus = SimpleNamespace(name="emodb", utterances=[*here, *elsewhere])
    speech: Any = SimpleNamespace(
        utterances=here[:attacked], prepared=SimpleNamespace(corpus=corpus)
    )
    return shown_places(AttackCommandConfig(show=names), speech)


def test_an_id_or_the_end_of_one() -> None:
    assert places("wav/03a01Fa", "03a01Wa", "u1", "01Wa") == (0, 2, 5)
    assert places("13a01Fa", "02Ac.1") == (1, 4)
    # A whole name comes before an ending.
    assert places("03a01Fa") == (0,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a01Fa", r"may be any of 2 utterances, such as 'wav/03a01Fa' or 'wav/13a01Fa'; give one"),
        ("08a02Ac", r"any of 2 utterances, such as 'wav/08a02Ac.0' or 'wav/08a02Ac.1'"),
        ("14b01Fc", r"wav/14b01Fc is in the train part of emodb, .*'wav/03a01Fa'.* --split train"),
        ("15b01Fc", r"wav/15b01Fc is in no part of emodb, and the test part is attacked"),
        ("new/u1", r"new/u1 is not among the 5 utterances attacked; give a larger --limit"),
        ("03a01Wb", r"'03a01Wb' is no utterance of emodb; did you mean 'wav/03a01Wa'"),
        ("zzz", r"no utterance of emodb; did you mean 'wav/03a01Fa', 'wav/13a01Fa' or"),
    ],
)
def test_what_is_not_attacked_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        places(name, attacked=5)
    assert "\n" not in str(caught.value)
