"""What a report says of attacks on images, from rows by hand."""

import pyarrow as pa
from made_rows import NAN, columns

from jaxser.reporting.loading import load
from jaxser.reporting.sections.robustness import robustness
from jaxser.reporting.warnings import warnings_of
from jaxser.results.schema import SCHEMA
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.results.writing import RowWriter


def rows_of(tmp_path, **changes):
    with RowWriter(tmp_path / "rows") as writer:
        writer.add(columns(**changes))
    return load([tmp_path / "rows"])


def test_a_report_says_that_an_attacked_image_is_no_speech(tmp_path):
    rows = rows_of(tmp_path, domain="image", colour_distance=0.1, decibel_change=2.5)
    (sentence,) = (each for each in warnings_of(rows) if each.startswith("No speech"))
    assert "0.10 from the nearest" in sentence
    assert "changes by 2.5 dB" in sentence
    header, line = robustness(list(rows.settings), "utterance").cells[:2]
    cells = dict(zip(header, line, strict=True))
    assert (cells["off colour"], cells["dB change"]) == ("0.100", "2.5")


def test_what_gradients_do_not_see_is_told_and_speech_has_no_such_columns(tmp_path):
    rows = rows_of(tmp_path, dead_gradients=0.25)
    assert any("25.0% of the cells" in each for each in warnings_of(rows))
    assert "off colour" not in robustness(list(rows.settings), "utterance").cells[0]
    assert not any(each.startswith("No speech") for each in warnings_of(rows))


def test_the_table_of_an_attack_has_means_of_what_succeeded():
    table = pa.table(columns(colour_distance=0.2, decibel_change=NAN), schema=SCHEMA)
    (line,) = summarise(table)
    assert round(line.colour_distance, 12) == 0.2
    text = format_table([line])
    assert "off colour" in text
    assert "dB change" not in text.splitlines()[0]
