"""Make tests/golden/optimality.json: local optimality as attackbenchlib computes it.

    pip install --no-deps --target build/attackbench attackbenchlib==2.0.2
    python scripts/golden_optimality.py build/attackbench

The one file of it that makes the figure needs NumPy alone, and is run by itself: the package as a
whole needs torch, torchvision and wandb.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def main(folder: str) -> None:
    """Draw distances of three attacks, and write them with their optimality."""
    path = Path(folder) / "attackbench" / "metrics" / "distances.py"
    spec = importlib.util.spec_from_file_location("attackbench_distances", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng = np.random.default_rng(0)
    cases = []
    for rows, wrong, unbroken in ((40, 0, 0), (40, 5, 0), (60, 4, 7), (5, 1, 0)):
        found = np.round(rng.gamma(2.0, 0.01, (3, rows)), 6)
        found[:, :wrong] = 0.0
        # Some attacks fail where others do not, and a few utterances withstand all.
        found[1, rows // 2 : rows // 2 + 3] = np.inf
        found[:, rows - unbroken :] = np.inf
        best = found.min(axis=0)
        values = [module.eval_optimality(each, best, 1 - wrong / rows) for each in found]
        cases.append({"found": [[_json(x) for x in each] for each in found], "optimality": values})
    out = ROOT / "tests" / "golden" / "optimality.json"
    out.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def _json(value: float) -> float | str:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else "inf"


if __name__ == "__main__":
    main(*sys.argv[1:])
