"""In how many cells one thing is less than another: the counts that a paper's text has."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jaxser.papers.table import Table, load_table
from jaxser.reporting.evaluation.outcomes import Line, Outcomes
from jaxser.reporting.evaluation.tallies import printed, tallied, tallies

PAPER = load_table(
    Path(__file__).resolve().parents[2] / "configs" / "tables" / "systematic_table5.yaml"
)
LESS_ACCURACY = "white-box attacks leave male speech less accuracy than female"
LESS_CHANGE = "white-box attacks change male speech less than female"


def test_the_printed_figures_have_the_counts_of_the_papers_text() -> None:
    """Sections 3.1.1, 3.2.4 and 3.2.5 of Facchinetti et al."""
    found = tallied(PAPER, printed(PAPER, "accuracy"), printed(PAPER, "mean_abs"))
    assert found[LESS_ACCURACY] == "9 of 15"
    counts = {"emodb": 2, "emovo": 4, "ravdess": 3}
    for corpus, count in counts.items():
        assert found[f"{LESS_ACCURACY}, {corpus}"] == f"{count} of 5"
    assert found["emovo keeps the most accuracy of all corpora"] == "4 of 7"
    assert found["ravdess keeps the least accuracy of all corpora"] == "4 of 7"
    assert found["emodb is changed the most of all corpora"] == "5 of 7"
    # The text has 0.063, 0.068 and 0.067 of the mean over the white-box attacks.
    for corpus, mean in {"emodb": 6.3, "emovo": 6.8, "ravdess": 6.7}.items():
        said = float(found[f"mean accuracy after white-box attacks, {corpus}"].rstrip("%"))
        assert abs(said - mean) <= 0.11
    # The text has 11; with three digits two cells are equal.
    assert found[LESS_CHANGE] == "10 of 15"
    # And 7 of its 11 have both.
    assert (
        found["white-box attacks leave male speech less accuracy and change it less"] == "6 of 15"
    )
    # The text has 4 of 6 and 1 of 6; EMOVO's BoundaryAttack has no printed change.
    assert found["black-box attacks change male speech less than female"] == "3 of 5"
    assert found["black-box attacks leave male speech less accuracy than female"] == "3 of 6"


def test_with_the_figures_of_the_notebooks_one_more_is_counted() -> None:
    """Female and male of C&W are swapped in print, and EmoDB's DeepFool is another figure."""
    figures = [printed(PAPER, name, notebooks=True) for name in ("accuracy", "mean_abs")]
    assert figures[0]["emovo"]["C&W"] == [0.085, 0.1022, 0.0676]
    found = tallied(PAPER, *figures)
    assert found[LESS_ACCURACY] == "10 of 15"
    assert found[f"{LESS_ACCURACY}, emodb"] == "1 of 5"


def line(attack: str, female: str, male: str, change: float) -> Line:
    right = np.array([each == "1" for each in female + male])
    count = len(right)
    outcomes = Outcomes(
        utterances=np.array([f"u{i}" for i in range(count)]),
        sources=np.array([f"u{i}" for i in range(count)]),
        speakers=np.array(["s"] * count),
        genders=np.array(["female"] * len(female) + ["male"] * len(male)),
        before=np.ones(count, bool),
        after=right,
        mean_abs=np.full(count, change),
        snr=np.full(count, 20.0),
    )
    return Line(attack, "", outcomes, 1.0, 1.0, ())


def test_what_was_measured_is_counted_beside_the_paper() -> None:
    table = dataclasses.replace(
        PAPER, published={"emodb": PAPER.published["emodb"]}, white_box=("FGSM", "BIM")
    )

    def evaluation(corpus: str, *lines: Line) -> SimpleNamespace:
        return SimpleNamespace(
            table=table,
            protocol="clean",
            corpus=SimpleNamespace(name=corpus),
            victim=Path(f"runs/{corpus}"),
            best=list(lines),
        )

    emodb = evaluation("emodb", line("FGSM", "11", "10", 2.0), line("BIM", "10", "10", 1.0))
    emovo = evaluation("emovo", line("FGSM", "11", "11", 1.0))
    heading, text, cells = tallies([emodb, emovo])  # type: ignore[arg-type,list-item]
    assert heading == "#### Tallies (clean)"
    assert "runs/emodb, runs/emovo" in text
    rows = dict(line.strip("| ").split(" | ", 1) for line in cells.splitlines()[2:])
    # Equal accuracy under BIM is on neither side; EMOVO was not attacked with it.
    assert rows[LESS_ACCURACY] == "1 of 3 | 1 of 2 | 1 of 2"
    assert rows[f"{LESS_ACCURACY}, emodb"].startswith("1 of 2")
    assert rows["emovo keeps the most accuracy of all corpora"] == "1 of 1 | – | –"
    assert rows["emodb is changed the most of all corpora"] == "1 of 1 | – | –"
    assert rows["mean accuracy after white-box attacks, emodb"].startswith("62.5%")
    assert "mean accuracy after white-box attacks, emovo" not in rows


def test_a_table_that_tallies_nothing_has_no_tallies() -> None:
    assert list(tallies([SimpleNamespace(table=Table())])) == []  # type: ignore[list-item]
