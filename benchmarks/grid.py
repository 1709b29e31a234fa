"""The sweep that benchmarks of sweeps run: a victim, attacks and ε from 1e-4 to 1e-2."""

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_grid", "grid_of"]


def add_grid(parser: argparse.ArgumentParser, attacks: list[str]) -> None:
    """The flags for the sweep, with the attacks that are its default."""
    parser.add_argument("--victim", type=Path, default=Path("runs/emo18_emodb"))
    parser.add_argument("--attacks", nargs="+", default=attacks)
    parser.add_argument("--epsilons", type=int, default=16, help="how many, from 1e-4 to 1e-2")
    parser.add_argument("--limit", type=int, default=100, help="utterances")


def grid_of(args: argparse.Namespace, attacks: list[str], epsilons: int) -> dict[str, Any]:
    """A sweep's config, without its folder."""
    return {
        "victims": [str(args.victim)],
        "attacks": attacks,
        "epsilon": {"logspace": [1e-4, 1e-2, epsilons]},
        "limit": args.limit,
    }
