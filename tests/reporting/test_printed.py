"""Printed figures beside those of the authors' notebooks."""

import math
from pathlib import Path

from jaxser.papers.table import Figures, Published, load_table
from jaxser.reporting.paper_tables.printed import printed_figures
from jaxser.results.cells import percent

TABLE = Path(__file__).resolve().parents[2] / "configs" / "tables" / "systematic_table5.yaml"


def test_notebooks_are_named_where_they_differ() -> None:
    figures = Published((0.1, 0.2, 0.3), notebooks=Figures((math.nan, 0.3, 0.2)))
    assert printed_figures(figures, "accuracy", percent) == [
        *("10.0%", "20.0% (notebooks: 30.0%)", "30.0% (notebooks: 20.0%)"),
    ]
    missing = Published(notebooks=Figures(mean_abs=(1.0, math.nan, math.nan)))
    assert printed_figures(missing, "mean_abs", str) == ["– (notebooks: 1.0)", "–", "–"]
    assert printed_figures(missing, "accuracy", percent) == []
    assert printed_figures(None, "accuracy", percent) == []


def test_what_the_papers_tables_swap() -> None:
    """Female and male of two attacks: what is printed of one is the notebooks' of the other."""
    table = load_table(TABLE)
    swapped = {"C&W": (), "C&W, softmax": (), "BoundaryAttack": ()}
    for corpus, lines in table.published.items():
        for name, figures in lines.items():
            told = figures.notebooks.accuracy
            if name in swapped:
                _, female, male = figures.accuracy
                assert [round(each, 3) for each in told[1:]] == [male, female], (corpus, name)
            elif told:
                assert (corpus, name.partition(",")[0]) == ("emodb", "DeepFool")
    cells = printed_figures(table.published["emovo"]["BoundaryAttack"], "mean_abs", "{:.3f}".format)
    assert cells == ["– (notebooks: 1.023)", "–", "–"]


def test_lines_on_probabilities_stand_beside_those_on_logits() -> None:
    entries = {entry.title: entry for entry in load_table(TABLE).attacks}
    given = {name for name, entry in entries.items() if entry.output == "probabilities"}
    assert given == {f"{name}, softmax" for name in ("DeepFool", "JSMA", "C&W L2", "C&W")}
    for name in given:
        beside = entries[name.removesuffix(", softmax")]
        assert (beside.output, beside.attack) == ("logits", entries[name].attack)
        assert beside.grid == entries[name].grid
