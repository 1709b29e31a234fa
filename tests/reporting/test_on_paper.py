"""A report on A4 paper, printed by Chromium without a screen: nothing of it is lost."""

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_rows import BY_HAND, columns

from jaxser import report
from jaxser.results.writing import RowWriter

pytestmark = pytest.mark.long

_A4 = (595, 842)  # points


class Cells(html.parser.HTMLParser):
    """The text of every row of every table, of every fact and of every paragraph."""

    KINDS = ("tr", "p", "dd", "dt", "h1", "h2", "h3")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.KINDS:
            self.found.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in self.KINDS:
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def without_blanks(text: str) -> str:
    return re.sub(r"[\s\u00ad\u200b]", "", text)


def printed(page: Path, folder: Path) -> Path:
    """The page as a PDF file."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or shutil.which("pdftotext") is None:
        pytest.skip("printing needs chromium and pdftotext")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer"]
    out = folder / "page.pdf"
    subprocess.run(
        [chromium, *flags, f"--print-to-pdf={out}", page.as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return out


def test_every_row_is_on_paper(tmp_path: Path) -> None:
    victim = "a victim with a name that is longer than a column of a table is wide runs/x"
    same = {"victim": victim, "threat": victim}
    with RowWriter(tmp_path / "run") as writer:
        for epsilon in (0.001, 0.01, 0.1):
            for attack in ("pgd", "noise", "fgsm"):
                writer.add(columns(BY_HAND, epsilon=epsilon, attack=attack, **same))
            other = {"victim": "other", "threat": "other", "victim_fingerprint": "o"}
            writer.add(columns(BY_HAND, epsilon=epsilon, **other))
    page = tmp_path / "r.html"
    assert report.main([str(tmp_path / "run"), "--out", str(page)]) == 0
    pdf = printed(page, tmp_path)
    text = subprocess.run(
        ["pdftotext", "-raw", pdf, "-"], check=True, capture_output=True, text=True
    ).stdout
    paper = without_blanks(text)
    body = re.sub(r"<(script|style|svg).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    told = [without_blanks(each) for each in Cells(body).found]
    assert len(told) > 100
    # In the order of the page, cell by cell, so that a row's text is in one piece without blanks.
    assert [row for row in told if row not in paper] == []
    words = subprocess.run(
        ["pdftotext", "-bbox", pdf, "-"], check=True, capture_output=True, text=True
    ).stdout
    ends = [float(each) for each in re.findall(r'xMax="([\d.]+)"', words)]
    assert max(ends) < _A4[0]
    sizes = re.findall(r'<page width="([\d.]+)" height="([\d.]+)"', words)
    assert {(round(float(w)), round(float(h))) for w, h in sizes} == {_A4}
