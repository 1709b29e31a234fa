"""One attack on a victim's held-out speech: the rows and files that it leaves.

    run = prepare_run(AttackCommandConfig(victim=Path("runs/emo18_emodb"), attack="pgd"))
    attack_missing_rows(run)
    run.rows()                                  # pyarrow, one row per utterance and ε

Rows that are there already stay, so a run that was stopped goes on when it is asked for again.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from jaxser.driver.meter import Progress, Throughput
from jaxser.driver.progress import AttackBar
from jaxser.driver.row_block import RowBlock
from jaxser.driver.run import attack_rows
from jaxser.experiments.columns import columns_of, heard_columns
from jaxser.experiments.examples import write_examples
from jaxser.experiments.run import Run
from jaxser.results.writing import RowWriter
from jaxser.runtime.files import remove_strays
from jaxser.runtime.in_order import InOrder
from jaxser.runtime.locks import held
from jaxser.runtime.signals import requested
from jaxser.runtime.stages import stage

__all__ = ["attack_missing_rows", "blocks_of"]

# Blocks of finished rows that wait for the thread that writes them: more would be memory that grows
# where writing is slower than attacking.
_WAITING_BLOCKS = 2


def attack_missing_rows(
    run: Run, *, title: str = "", shown: bool = True, shared: bool = False
) -> Throughput:
    """Make the rows that are not there yet.

    Args:
      run: of :func:`prepare_run`.
      title: of the progress bar, where one attack runs more than once; its name by default.
      shown: whether there is a progress bar.
      shared: other processes make other rows of the same folder.

    Raises:
      InputError: another process makes rows there.
      Stopped: after Ctrl-C or another signal; rows that are finished are kept.
    """
    # Of a finished run the folder may be one that cannot be written.
    if not run.missing().any():
        return Throughput()
    with held(run.out, "attacked", shared=shared):
        if not shared:
            remove_strays(run.out)
        stage("attacking", shown=False)
        return _attack(run, title or run.attack.name, shown)


def _attack(run: Run, title: str, shown: bool) -> Throughput:
    """In a folder that is held, so that nobody else makes the rows that are missing."""
    done = run.done()
    missing = run.missing(done)
    throughput = Throughput()
    with (
        RowWriter(run.out, run.source()) as writer,
        AttackBar(title, int(missing.sum()), shown=shown) as bar,
        requested() as stop,
        # The devices do not wait for files, speech measures and columns.
        InOrder(_WAITING_BLOCKS) as keeper,
    ):

        def watch(progress: Progress) -> bool:
            bar.watch(progress)
            return not stop.is_set()

        # Utterances that lack rows at the same ε: all of them as a rule, few where a run goes on.
        # np.unique sorts them, so that reversed those that lack every ε come first.
        for lacked in np.unique(missing[missing.any(axis=1)], axis=0)[::-1]:
            lacking = np.flatnonzero((missing == lacked).all(axis=1))
            before, of_stream = throughput, Throughput()
            for block in blocks_of(
                run,
                lacking,
                np.flatnonzero(lacked),
                keep_x_adv=run.kept_inputs(),
                watch=watch,
            ):
                of_stream = block.throughput
                keeper.give(_keep, run, lacking[block.utterance], block, done, writer, bar)
            throughput = before + of_stream
            if stop.is_set():
                break
    # Only now are the rows written.
    stop.raise_if_set()
    return throughput


def blocks_of(
    run: Run,
    lacking: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
    *,
    keep_x_adv: bool = False,
    watch: Callable[[Progress], bool] | None = None,
) -> Iterator[RowBlock]:
    """The run's attack, as rows finish; nothing is written.

    Args:
      run: of :func:`prepare_run`.
      lacking: places of the utterances to attack, along which the blocks count; all by default.
      wanted: places of the ε; all by default.
      keep_x_adv, watch: as of :func:`jaxser.driver.run.attack_rows`.
    """
    config = run.config
    lacking = np.arange(len(run.utterances)) if lacking is None else lacking
    wanted = np.arange(len(run.epsilons)) if wanted is None else wanted
    for block in attack_rows(
        run.speech.victim,
        run.speech.inputs,
        run.attacked[lacking],
        run.attack,
        [run.epsilons[e] for e in wanted],
        epsilon_unit=config.epsilon_unit,
        subset=run.speech.places[lacking],
        seed=config.seed,
        ids=[run.utterances[i].id for i in lacking],
        batch_size=config.batch_size,
        keep_x_adv=keep_x_adv,
        draws=config.draws,
        clean=run.speech.clean.take(lacking),
        watch=watch,
    ):
        yield dataclasses.replace(block, epsilon_index=wanted[block.epsilon_index])


def _keep(
    run: Run,
    where: np.ndarray,
    block: RowBlock,
    done: np.ndarray,
    writer: RowWriter,
    bar: AttackBar,
) -> None:
    """Write what a block leaves: files first, then the rows that say that it is done."""
    write_examples(run, where, block)
    new = ~done[where, block.epsilon_index]
    if new.any():
        own = columns_of(run, where, block, new)
        heard = (heard_columns(run, each, own, where, block, new) for each in run.listeners)
        writer.add(own, *heard)
    bar.add(block, run.speech.labels[where], run.speech.clean.prediction[where])
