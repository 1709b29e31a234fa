"""Attack victims at many ε: ``python -m jaxser.sweep CONFIG.yaml``.

    python -m jaxser.sweep configs/sweeps/demo.yaml --dry_run
    python -m jaxser.sweep configs/sweeps/demo.yaml
    python -m jaxser.sweep configs/sweeps/demo.yaml --engine ray

A sweep file lists victims, attacks, ε, corpora and seeds. All ε of a victim, an attack, a corpus
and a seed are one stream of batches through one compiled step. Rows are appended to Parquet files
under OUT/rows as they come, whole files only; a sweep that was stopped or killed goes on with the
same command to exactly the rows that it would have had. What fails is noted, the rest goes on, and
the exit status is 1.

Several processes that are given the same command share the utterances out among themselves and need
each other no more once they have begun; ``docs/scaling.md`` has more of that, and of Ray.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxser.config.sweep import load_sweep
from jaxser.config.sweep_flags import SweepFlags, parse_sweep
from jaxser.results.outcomes import Outcome
from jaxser.runtime.determinism import be_deterministic, is_to_be_deterministic
from jaxser.runtime.errors import UsageError, report_errors, stopped_status
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

if TYPE_CHECKING:
    from jaxser.config.sweep import SweepConfig
    from jaxser.runtime.sharding import Share

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    flags = parse_sweep(argv)
    config = load_sweep(flags.config, flags.changes())
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file; give another --out.")
    if flags.engine == "local" and flags.workers is not None:
        raise UsageError("--workers are of --engine ray; give both or neither.")

    start("loading JAX")
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    if flags.engine == "ray":
        return _run_on_ray(config, flags)
    if flags.dry_run:
        be_deterministic(config.out, flags.deterministic)
        from jaxser.experiments.dry_run import print_estimate
        from jaxser.experiments.sweep import check_sweep

        check_sweep(config)
        possible = print_estimate(config)
        print(wrapped(took(), terminal_width()))
        return 0 if possible else 1
    return _run(config, flags)


def _run(config: "SweepConfig", flags: SweepFlags) -> int:
    from jaxser.runtime.sharding import join_processes

    # Processes find each other before anything else is imported that might make a backend of JAX.
    share = join_processes(flags.coordinator, flags.processes, flags.process)
    be_deterministic(config.out, flags.deterministic, share.index)
    from jaxser.experiments.sweep import check_sweep, run_sweep
    from jaxser.experiments.sweep_folder import held_sweep

    check_sweep(config)
    with held_sweep(config, share):
        try:
            outcomes = run_sweep(config, share, None if flags.wide else terminal_width())
        except KeyboardInterrupt as error:
            print(
                f"interrupted: finished rows are kept in {config.out}; the same command goes on "
                "from there.",
                file=sys.stderr,
            )
            return stopped_status(error)
        return _summary(config.out, outcomes, share)


def _run_on_ray(config: "SweepConfig", flags: SweepFlags) -> int:
    if flags.dry_run or flags.coordinator or flags.processes or flags.process is not None:
        raise UsageError(
            "--engine ray finds its own processes; leave out --coordinator, --processes, "
            "--process and --dry_run."
        )
    import jax

    jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
    from jaxser.experiments.ray_engine import sweep_on_ray
    from jaxser.experiments.sweep import check_sweep
    from jaxser.experiments.sweep_folder import held_sweep
    from jaxser.runtime.sharding import WHOLE

    check_sweep(config)
    deterministic = is_to_be_deterministic(config.out, flags.deterministic)
    with held_sweep(config, WHOLE):
        outcomes = sweep_on_ray(config, flags.workers, deterministic)
        return _summary(config.out, outcomes, WHOLE)


def _summary(out: Path, outcomes: Sequence[Outcome], share: "Share") -> int:
    failed = [outcome for outcome in outcomes if outcome.reason]
    rows = sum(outcome.rows for outcome in outcomes)
    whose = f", of process {share.index} of {share.count}" if share.count > 1 else ""
    print(wrapped(took(), terminal_width()))
    print(f"{rows:,} rows in {out / 'rows'}{whose}")
    for outcome in failed:
        print(f"failed: {outcome.cell}: {outcome.reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
