"""Names from tables and paths, whatever is in them: in figures, pages, and tables as files."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from made_rows import BY_HAND, columns
from matplotlib.text import Text

from jaxser import report
from jaxser.reporting import figures
from jaxser.reporting.figures import canvas
from jaxser.reporting.figures.explanations import Example
from jaxser.reporting.section import Section
from jaxser.reporting.table_files import csv_table, latex_table, markdown_table
from jaxser.results.cells import csv_text
from jaxser.results.estimate import Estimate
from jaxser.results.writing import RowWriter
from jaxser.speech.features import Spectrogram
from jaxser.speech.images import SpectrogramImage

PACKAGE = Path(report.__file__).parent
NAMES = ("$\\foo$", "sad_{x$ \\alpha", "愤怒", "a\0b", "\u202egreen", "=1+1", "<b>&amp;", "_hidden")


def hostile(draw: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: draw(*arguments, **options)


def one_each(value: float = 2.0) -> list[float]:
    return [value * 10.0**i for i in range(len(NAMES))]


FIGURES = {
    "confusion_figure": hostile(
        figures.confusion_figure, np.eye(len(NAMES), dtype=int), NAMES, NAMES[0]
    ),
    "bars_figure": hostile(
        figures.bars_figure,
        *(NAMES[0], NAMES[1], NAMES),
        {name: one_each() for name in NAMES},
        {NAMES[0]: one_each(3.0)},
        log=True,
    ),
    "log_bars_figure": hostile(figures.log_bars_figure, NAMES[0], NAMES, one_each(), start=1.0),
    "spectrograms_figure": hostile(
        figures.spectrograms_figure,
        NAMES[0],
        np.zeros((4, 5)),
        {"a\0b 愤怒": np.ones((4, 5))},
        1.0,
    ),
    "spectrogram_images_figure": hostile(
        figures.spectrogram_images_figure,
        NAMES[0],
        {
            "a\0b 愤怒": SpectrogramImage(
                Spectrogram("linear", n_fft=62, hop_length=62, db=True), size=8
            )
        },
        {"a\0b 愤怒": np.zeros((8, 8, 3))},
        {"a\0b 愤怒": np.ones((8, 8, 3))},
    ),
    "embedding_figure": hostile(
        figures.embedding_figure,
        *(np.zeros((len(NAMES), 2)), np.ones((len(NAMES), 2))),
        *(np.arange(len(NAMES)), NAMES, NAMES[0], NAMES[1]),
    ),
    "confusions_figure": hostile(
        figures.confusions_figure,
        *(NAMES[0], [{NAMES[1]: np.eye(len(NAMES), dtype=int)}], [NAMES]),
    ),
    "agreement_figure": hostile(
        figures.agreement_figure,
        *(NAMES[0], {"rank": NAMES[1]}),
        {NAMES[2]: {name: {NAMES[3]: {"rank": Estimate(0.5, 0.4, 0.6)}} for name in NAMES}},
        [NAMES[3]],
    ),
    "spectrogram_maps_figure": hostile(
        figures.spectrogram_maps_figure,
        NAMES[0],
        [Example(NAMES[2], (np.ones((8, 8)),) * 2, (np.ones((8, 8)),) * 2, (NAMES[3], NAMES[4]))],
        *(Spectrogram("linear", n_fft=62, hop_length=62, db=True), 1.0),
    ),
    "waveform_maps_figure": hostile(
        figures.waveform_maps_figure,
        NAMES[0],
        [Example(NAMES[2], (np.ones(80),) * 2, (np.ones(80),) * 2, (NAMES[3], NAMES[4]))],
        8000,
    ),
    "perturbation_figure": hostile(
        figures.perturbation_figure, NAMES[0], np.ones(4000), np.zeros(4000), 8000
    ),
}


def test_every_figure_is_drawn_here() -> None:
    drawn = {name for name in figures.__all__ if name.endswith("_figure")} - {"save_figure"}
    assert set(FIGURES) == drawn


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name]()
    figures.save_figure(figure, tmp_path / "figure.png")  # warnings are errors
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    assert not any(text.get_parse_math() for text in texts)
    said = "\n".join(text.get_text() for text in texts)
    assert "$\\foo$" in said
    assert "\\mathdefault" not in said
    if name != "perturbation_figure":
        assert "a[U+0000]b" in said
        assert "愤怒" in said or "[U+6124][U+6012]" in said
    if name in ("bars_figure", "embedding_figure"):  # matplotlib leaves out what begins with "_"
        (legend,) = figure.legends
        assert len(legend.get_texts()) == len(NAMES) + 1  # beside the names, what grey is
        assert " _hidden" in [text.get_text() for text in legend.get_texts()]
    if name == "bars_figure":  # again, as TensorBoard draws what was saved before
        assert canvas.figure_file(figure, "png")
        again = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
        assert "\n".join(again) == said


def test_no_figure_is_made_elsewhere() -> None:
    """One that is would read names as mathematics."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        made = re.findall(r"[ =.]Figure\(|pyplot", text.replace("Not pyplot's", ""))
        assert not made, path


def test_a_font_of_the_machine_that_has_the_letters(tmp_path: Path) -> None:
    """matplotlib's own one lacks them, and another that comes with it does not."""
    own = canvas._letters(matplotlib.font_manager.findfont("DejaVu Sans"))
    others = (canvas._letters(font.fname) for font in canvas._fonts())
    letter = next(chr(code) for letters in others for code in sorted(letters - own) if code > 8192)
    figure = canvas.new_figure((3, 3))
    figure.suptitle(f"in {letter}")
    figures.save_figure(figure, tmp_path / "figure.png")  # a missing letter is a warning
    (title,) = [text for text in figure.findobj(Text) if letter in text.get_text()]
    assert canvas._font_with(letter) in title.get_fontfamily()


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *((f"{sign}cmd()", f"'{sign}cmd()") for sign in "=+-@＝"),
        ("\t=1+1", "'\t=1+1"),
        (" =1+1", "' =1+1"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("+A1", "'+A1"),
        ("-E5", "'-E5"),
        *((figure, figure) for figure in ("-3.2", "+0.5", "-1e-05", "-inf", "-", "–", "12 dB")),
        *((figure, figure) for figure in ("-3.2 (-4.0–-2.1)", "-12.5%", "-1,024")),
        ("+33.3% (+0.0% to +66.7%)", "+33.3% (+0.0% to +66.7%)"),
        ("-to1", "'-to1"),
        (-3.2, "-3.2"),
        ("a\0b\u202e", "a[U+0000]b[U+202E]"),
        ("emo18 runs/x", "emo18 runs/x"),
    ],
)
def test_no_cell_is_a_formula(cell: object, written: str) -> None:
    assert next(csv.reader(io.StringIO(csv_text([[cell]])))) == [written]


def test_every_csv_file_is_written_there() -> None:
    """But those that are read back: the table of a corpus, a split, and the history of a run."""
    own = {"results/cells.py", "corpora/splits.py", "corpora/synthetic/folder.py"}
    own.add("results/history.py")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "csv.writer(" in (text := path.read_text(encoding="utf-8")) or "csv.DictWriter(" in text
    }
    assert found == own


def test_latex_and_markdown_show_what_cannot_be_seen() -> None:
    section = Section("a\0", "a", [["x"], *([name] for name in NAMES)], "\u202e")
    for text in (latex_table(section), markdown_table(section)):
        assert "a[U+0000]b" in text
        assert "[U+202E]green" in text
        assert not {"\0", "\u202e"} & set(text)
    assert "<b>" not in markdown_table(section)


def test_signs_and_line_ends_are_written_as_each_form_has_them() -> None:
    cells = [["attack", "α", "a − |Δ|"], ["*", "1", "2"], ["[x]\n\ny", "1", "3"]]
    section = Section("two\n\nlines", "a", cells, "text")
    assert csv_table(section).splitlines()[0] == "attack,alpha,a_minus_delta"
    assert csv_table(Section("none", "none", [["a", "ε"]], "")) == "a,epsilon\n"
    assert (
        csv_table(Section("dB", "dB", [["ε -10", "ε 10"]], "")) == "epsilon_minus_10,epsilon_10\n"
    )
    latex = latex_table(section).splitlines()
    assert r"\caption{two lines (α 1). text}".replace("α", r"$\alpha$") in latex
    # Behind the end of a row LaTeX takes a star or a bracket for what belongs to that end.
    assert {r"{}* & 2 \\", r"{}[x] y & 3 \\"} <= set(latex)
    assert r"attack & a $-$ \textbar{}$\Delta$\textbar{} \\" in latex
    assert markdown_table(section).startswith("## two lines\n")


def test_a_report_of_such_names(tmp_path: Path) -> None:
    labels = dict(zip(("anger", "joy", "sad"), NAMES[:3], strict=True))
    rows = [tuple(labels.get(each, each) for each in row) for row in BY_HAND]
    named = {"victim": "\u202e=x() $y$", "threat": "\u202e=x() $y$", "corpus": "愤怒\0<script>"}
    with RowWriter(tmp_path / "rows") as writer:
        for epsilon in (0.001, 0.01):
            writer.add(columns(rows, epsilon=epsilon, **named))
    folders = [str(tmp_path / kind) for kind in ("csv", "md", "tex")]
    flags = zip(("--csv", "--markdown", "--latex"), folders, strict=True)
    page = tmp_path / "page.html"
    argv = [str(tmp_path / "rows"), "--out", str(page), *(each for pair in flags for each in pair)]
    assert report.main(argv) == 0
    written = [page, *(file for folder in folders for file in Path(folder).iterdir())]
    assert len(written) > 6
    for file in written:
        text = file.read_text(encoding="utf-8")
        assert not {"\0", "\u202e"} & set(text), file
        assert "愤怒[U+0000]<script>" not in text or file.suffix in (".csv", ".tex")
