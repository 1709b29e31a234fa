"""How fast rows are written and reported.

    python -m benchmarks.rows --rows 1000000

Made-up rows of attacks at 16 ε on speech of 20 speakers are written as an attack writes them, and
then read by python -m jaxser.report in a process of its own, whose processor time and memory count.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command_parser, write_json
from jaxser.results.schema import SCHEMA
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import report_errors
from jaxser.runtime.provenance import environment

_ATTACKS, _EPSILONS, _SPEAKERS = 4, 16, 20
_LABELS = np.array(["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"])
# As many rows as an attack hands over at once, or fewer.
_BLOCK = 2_000


def main(argv: Sequence[str] | None = None) -> int:
    """Write, report, print; returns the exit status."""
    parser = command_parser("rows", __doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="JSON file of what was measured")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        measured = {"rows": args.rows} | _written(Path(folder), args.rows) | _reported(Path(folder))
    print(
        f"{args.rows:,} rows: {measured['rows_per_s']:,.0f} rows/s written; reported in "
        f"{measured['report_cpu_s']:.1f} s of processor time, {measured['report_wall_s']:.1f} s in "
        f"all, with {measured['report_peak_mb']:,.0f} MB, a page of {measured['page_mb']:.1f} MB"
    )
    if args.out is not None:
        write_json(args.out, {"environment": environment(), "measured": measured})
    return 0


def _written(folder: Path, count: int) -> dict[str, float]:
    """Rows per second of :class:`RowWriter` alone."""
    utterances = -(-count // (_ATTACKS * _EPSILONS))
    spent, left = 0.0, count
    rng = np.random.default_rng(0)
    with RowWriter(folder / "rows") as writer:
        for attack in range(_ATTACKS):
            for epsilon in range(_EPSILONS):
                for first in range(0, utterances, _BLOCK):
                    size = min(_BLOCK, utterances - first, left)
                    left -= size
                    columns = _columns(rng, attack, epsilon, first, size)
                    start = time.perf_counter()
                    writer.add(columns)
                    spent += time.perf_counter() - start
        start = time.perf_counter()
        writer.flush()
    return {"rows_per_s": count / (spent + time.perf_counter() - start)}


def _columns(
    rng: np.random.Generator, attack: int, epsilon: int, first: int, size: int
) -> dict[str, Any]:
    """A block of rows: the more ε, the more are fooled."""
    places = np.arange(first, first + size)
    label = places % len(_LABELS)
    fooled = rng.random(size) < (epsilon + attack) / (_EPSILONS + _ATTACKS)
    found = np.where(fooled, rng.integers(len(_LABELS), size=size), label)
    same = {
        **{field.name: 1.0 for field in SCHEMA if field.type == "double"},
        **{field.name: 1 for field in SCHEMA if field.type == "int64"},
        **{field.name: False for field in SCHEMA if field.type == "bool"},
        **{field.name: field.name for field in SCHEMA if field.type == "string"},
        **{"notes": ["made up"], "flags": [], "synthetic": True, "seed": 0},
        **dict.fromkeys(("clean_logits", "logits")),
        **{"attack": f"attack{attack}", "parameters": json.dumps({"steps": attack})},
        **{"epsilon": 0.001 * (epsilon + 1), "epsilon_unit": "amplitude", "epsilon_norm": "linf"},
        **{"domain": "waveform", "threat": "victim", "victim": "victim", "label_source": "truth"},
    }
    return {
        **{name: [value] * size for name, value in same.items()},
        **{key: [f"u{place}" for place in places] for key in ("utterance", "source")},
        "speaker": [f"s{place % _SPEAKERS}" for place in places],
        "gender": np.where(places % 2, "female", "male"),
        "label": _LABELS[label],
        "clean_prediction": _LABELS[label],
        "prediction": _LABELS[found],
        "success": found != label,
        "queries": rng.integers(1, 1000, size),
        **{name: rng.normal(60 - 3 * epsilon, 5, size) for name in ("snr_peak", "snr_power")},
        "stoi": rng.uniform(0.8, 1, size),
        "linf": rng.uniform(0.9, 1, size) * same["epsilon"],
    }


def _reported(folder: Path) -> dict[str, float]:
    """Of a process that makes the page."""
    page = folder / "report.html"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "jaxser.report", str(folder), "--out", str(page)],
        check=True,
        capture_output=True,
    )
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "report_cpu_s": used.ru_utime + used.ru_stime,
        "report_wall_s": wall,
        "report_peak_mb": used.ru_maxrss / 1e3,
        "page_mb": page.stat().st_size / 1e6,
    }


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
