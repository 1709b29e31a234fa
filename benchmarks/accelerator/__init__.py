"""Everything that is to be known of a GPU or TPU, measured in one call."""

from benchmarks.accelerator.command import main

__all__ = ["main"]
