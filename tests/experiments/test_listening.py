"""``--audio``: what a report plays is what fooled the victim."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_rows import columns
from tiny_networks import use_tiny_networks
from untrained_run import RATE, make_tiny_run

from jaxser import attack, report
from jaxser.results.reading import read_rows
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import report_errors


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_networks(monkeypatch)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of an attack that fools the victim on some utterances, and its adversarial speech."""
    victim = make_tiny_run(tmp_path_factory.mktemp("audio"))
    # The label that a network of random weights gives is the one that can be taken from it.
    argv = ["--victim", str(victim), "--attack", "deepfool", "--save_wav", "--limit", "4"]
    argv += ["--y", "prediction"]
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        assert attack.main(argv) == 0
    return victim / "attacks"


def test_players_hold_what_the_attack_made(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    before = sorted(path.name for path in rows.rglob("*"))
    assert report.main([str(rows), "--audio", "1", "--out", str(out)]) == 0
    text = out.read_text()
    found = read_rows(rows).to_pylist()
    fooled = [r for r in found if r["success"] and r["prediction"] != r["clean_prediction"]]
    first = min(fooled, key=lambda r: (r["utterance"], r["epsilon"]))
    assert f"{first['utterance']}: deepfool on " in text
    assert "(made again, for" not in text
    players = re.findall(r'aria-label="([^"]*)" src="data:audio/wav;base64,([^"]*)"', text)
    names = [name for name, _ in players]
    for name, kind in zip(names, ("original, ", "adversarial, ", "difference, "), strict=True):
        assert name.startswith(kind)
        assert name.endswith(f"{first['utterance']}: deepfool on emo18 {rows.parent}")
    x, x_adv, louder = (
        soundfile.read(io.BytesIO(base64.b64decode(data)))[0] for _, data in players
    )
    (file,) = rows.glob(f"*/wav/epsilon-{first['epsilon']:g}/{first['utterance']}.wav")
    kept, rate = soundfile.read(file)
    assert rate == RATE
    np.testing.assert_allclose(x_adv, kept, atol=1 / 2**15)
    # The difference is as loud as the speech.
    assert np.abs(louder).max() == pytest.approx(np.abs(x).max(), abs=2 / 2**15)
    assert re.match(r"difference, -?\d+ dB louder, ", names[2])
    assert sorted(path.name for path in rows.rglob("*")) == before  # a report writes no rows


def test_another_victim_is_not_played(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows whose files say nothing, or of a victim that was trained again."""
    import pyarrow.parquet as pq

    for name, metadata, words in (
        ("old", {}, "do not say how they were made"),
        ("again", {"victim": {"fingerprint": "0" * 16}}, "is not what the rows are of"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for path in rows.rglob("rows-*.parquet"):
            table = pq.read_table(path)
            source = json.loads(table.schema.metadata[b"jaxser"])
            if metadata:
                source["victim"] |= metadata["victim"]
            kept = {b"jaxser": json.dumps(source)} if metadata else {}
            pq.write_table(table.replace_schema_metadata(kept), folder / "rows-1.parquet")
        argv = [str(folder), "--audio", "1", "--out", str(tmp_path / "r.html")]
        assert report_errors(lambda argv=argv: report.main(argv))
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error


def test_nothing_to_listen_to(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "run") as writer:
        writer.add({**columns(), "success": [False] * 7})
    out = tmp_path / "r.html"
    assert report.main([str(tmp_path / "run"), "--audio", "1", "--out", str(out)]) == 0
    assert "No attack on speech succeeded" in out.read_text()


def test_no_number_of_utterances(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_errors(lambda: report.main([str(rows), "--audio", "0"])) == 2
    assert "--audio 0 is no number of utterances" in capsys.readouterr().err
