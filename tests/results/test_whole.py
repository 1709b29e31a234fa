"""Windows put together to whole utterances, by hand."""

import numpy as np
import pyarrow as pa
from made_rows import columns

from jaxser.results.schema import SCHEMA
from jaxser.results.summary import summarise
from jaxser.results.whole import are_parts, of_whole_utterances

LABELS = ("anger", "joy", "sad")
# source, label, clean logits, adversarial logits, SNR, queries
WINDOWS = [
    ("a", "anger", [3, 0, 0], [0, 1, 0], 10.0, 1),
    ("a", "anger", [0, 1, 0], [3, 0, 0], 30.0, 2),  # alone another class, together anger twice
    ("b", "joy", [0, 2, 0], [0, 0, 5], 20.0, 3),
    ("b", "joy", [0, 2, 1], [0, 4, 0], np.nan, 4),  # one window decides for both
    ("c", "sad", [0, 0, 1], [np.nan, 0, 0], np.nan, 5),  # no prediction
    # Neither window says sad, but their mean does.
    ("d", "joy", [4, 0, 3], [1, 0, 0], 40.0, 6),
    ("d", "joy", [0, 4, 3], [1, 0, 0], 40.0, 7),
]


def rows(**changes):
    source, label, clean, robust, snr, queries = zip(*WINDOWS, strict=True)
    filler = [(each, "x", "y", True, 1.0, 1.0, "female") for each in label]
    values = columns(filler) | {
        "utterance": [f"{name}.{i}" for i, name in enumerate(source)],
        "source": list(source),
        "clean_logits": list(clean),
        "logits": list(robust),
        "snr_peak": list(snr),
        "queries": list(queries),
        **{name: [value] * len(source) for name, value in changes.items()},
    }
    return pa.table(values, schema=SCHEMA)


def test_the_mean_of_the_logits_decides():
    table = rows()
    assert are_parts(table)
    whole = of_whole_utterances(table, LABELS)
    assert whole.schema == SCHEMA
    assert whole["utterance"].to_pylist() == list("abcd")
    assert whole["clean_prediction"].to_pylist() == ["anger", "joy", "sad", "sad"]
    assert whole["prediction"].to_pylist() == ["anger", "sad", None, "anger"]
    assert whole["success"].to_pylist() == [False, True, True, True]
    np.testing.assert_array_equal(whole["snr_peak"].to_numpy(), [20, 20, np.nan, 40])
    assert whole["queries"].to_pylist() == [3, 7, 5, 13]
    (line,) = summarise(whole)
    assert line.rows == 4
    assert line.clean_accuracy.value == 0.75
    assert line.robust_accuracy.value == 0.25


def test_predictions_and_targets_that_are_attacked():
    whole = of_whole_utterances(rows(label_source="prediction"), LABELS)
    assert whole["attacked_label"].to_pylist() == ["anger", "joy", "sad", "sad"]
    assert whole["success"].to_pylist() == [False, True, True, True]
    target = rows(label_source="target", targeted=True, attacked_label="sad")
    whole = of_whole_utterances(target, LABELS)
    assert whole["success"].to_pylist() == [False, True, False, False]


def test_settings_are_kept_apart_and_whole_rows_are_no_parts():
    two = pa.concat_tables([rows(epsilon=0.01), rows(epsilon=0.1)])
    assert of_whole_utterances(two, LABELS).num_rows == 8
    assert not are_parts(of_whole_utterances(two, LABELS))
    assert not are_parts(pa.table(columns(), schema=SCHEMA))
