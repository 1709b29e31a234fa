"""Run any attack over any number of (utterance, ε) rows, on any number of devices.

    result = run_attack(victim, waveforms, labels, PGD(steps=20), epsilons=[0.005, 0.01], seed=0)
    result.success                                   # [epsilons, batch] bool
    for block in attack_rows(victim, waveforms, labels, PGD(), [0.005, 0.01]):
        block.prediction, block.measures["snr_peak"]  # rows as they finish

All rows of a run, over all utterances and all ε, go as one stream of equally shaped batches
through one compiled step; ε, labels, seed and the victim's variables are its arguments, so none
of them compiles anew. Slots whose rows are done are refilled with the next rows of the stream.
Every device works on its own slice of the batch and needs nothing from the others.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Shaped

from jaxser.attacks.base import RANDOMISED, Attack, LogitsFn
from jaxser.attacks.projections import Bounds
from jaxser.driver.ahead_of_time import compile_count, compile_seconds
from jaxser.driver.arguments import (
    as_array,
    check_victim,
    check_within,
    checked_attack,
    checked_count,
    checked_devices,
    checked_epsilons,
)
from jaxser.driver.budgets import EpsilonUnit, amplitudes, check_budgets
from jaxser.driver.clean import look, run_key
from jaxser.driver.inputs import Inputs
from jaxser.driver.machine import Loop, make_machine
from jaxser.driver.meter import Meter, Throughput, Watch, Watcher
from jaxser.driver.plan import score_rows_of
from jaxser.driver.result import RESULT_COLUMNS, AttackResult
from jaxser.driver.row_block import RowBlock
from jaxser.driver.samples import scaled
from jaxser.driver.sequence import AttackSequence, members, sequence_stream
from jaxser.driver.single_attack import Run
from jaxser.driver.source import Source
from jaxser.driver.work import CleanPass, Work, checked_labels
from jaxser.results.perturbation import MEASURES
from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import make_mesh
from jaxser.victims.victim import Victim

__all__ = ["attack_rows", "clean_pass", "predict", "run_attack"]

# Bounds of an attack that nobody set: the victim's own replace them. Whoever sets these very bounds
# for a victim with others is taken for nobody.
_DEFAULT_BOUNDS = (-1.0, 1.0)


def run_attack(
    victim: Victim | LogitsFn,
    waveforms: Shaped[np.ndarray, "batch ..."] | Shaped[Array, "batch ..."],
    labels: Sequence[int] | Int[np.ndarray, " batch"] | None,
    attack: Attack | AttackSequence,
    epsilons: Sequence[float] | float,
    *,
    epsilon_unit: EpsilonUnit = "amplitude",
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    batch_size: int | None = None,
    loop: Loop | None = None,
    refill: bool = True,
    draws: int = 5,
    devices: Sequence[jax.Device] | None = None,
) -> AttackResult:
    """Attack every input at every ε and return everything.

    Args:
      victim: a :class:`Victim`, whose bounds replace the attack's default ones, or any function
        from ``[batch, ...]`` to logits ``[batch, classes]``.
      waveforms: clean inputs within the bounds. Integer samples of speech (one axis beside the
        batch's, bounds of (-1, 1)) are divided by the full scale of their type.
      labels: labels to leave, or targets of a targeted attack; None attacks the clean
        predictions.
      attack: what to run.
      epsilons: a budget, or a list of them. As amplitudes: positive, in the units of the attack's
        norm; infinite (no limit) for attacks that look for the smallest perturbation.
      epsilon_unit: "amplitude", or a signal-to-noise ratio in dB that every input turns into an
        amplitude: "snr_peak" (L∞ attacks), "snr_power" (L∞ and L2 attacks).
      seed: of all randomness; from 0 to 2**63 - 1.
      ids: one name or number per input, which its randomness depends on; its position by default.
      batch_size: most rows per batch over all devices, by the device and its memory by default;
        it changes no result beyond float reordering. Where memory runs out it is halved.
      loop: "host" calls the step from the host, "device" loops in the compiled program; the
        faster one for the backend by default.
      refill: give the slots of finished rows to the next rows.
      draws: of a randomised victim's noise under which a finished row is looked at: it withstood
        where it withstands in all, and ``success_share`` is the share where it does not.
      devices: to run on; all local ones by default.

    Raises:
      InputError: inputs or labels that do not fit the victim, are not finite or outside the
        bounds; a victim that fails or returns no logits; a silent input with an ε in dB, or no
        memory for a single row.
      UsageError: an ε out of range, or another bad argument.

    Examples:
      A victim whose logits are its two samples, each of which may move by ε; class 0 leads by 0.4
      in the first input, by 0.05 in the second.

      >>> import numpy as np
      >>> import jaxser
      >>> x, y = np.float32([[0.3, -0.1], [0.05, 0.0]]), [0, 0]
      >>> attack = jaxser.attacks.PGD(steps=10)
      >>> result = jaxser.run_attack(lambda x: x, x, y, attack, epsilons=[0.01, 0.1, 0.25])
      >>> result
      AttackResult(pgd, 6 rows: 2 inputs x epsilon 0.01 0.1 0.25, robust accuracy 100.0% 50.0% 0.0%)
      >>> print(result.success)  # [epsilons, batch]
      [[False False]
       [False  True]
       [ True  True]]
    """
    check_victim(victim)
    attack = _with_bounds(checked_attack(attack), victim)
    epsilons = checked_epsilons(epsilons)
    waveforms = as_array("waveforms", waveforms)
    if waveforms.ndim < 2 or len(waveforms) == 0:
        raise InputError(
            f"waveforms must be [batch, ...] with at least one row, but have shape "
            f"{waveforms.shape}; add an axis for the batch."
        )
    waveforms = scaled(waveforms, _input_bounds(victim, attack))
    seconds_before, count_before = compile_seconds(), compile_count()
    source, mesh = Source(waveforms, None, ids), _mesh(devices)
    check_within(source, _valid_range(victim, attack))
    # In the batches of the attack, so that there is one program less to compile.
    score_rows = score_rows_of(victim, batch_size, len(source), mesh, len(epsilons))
    clean = look(victim, source, seed, mesh, score_rows)
    if labels is None:
        unknown = clean.prediction < 0
        if unknown.any():
            raise InputError(
                f"the victim's logits for waveforms[{int(unknown.argmax())}] are not finite, "
                "so there is no prediction to attack; leave such rows out or give labels."
            )
        labels = clean.prediction
    attacked = as_array("labels", labels)
    shape = (len(epsilons), len(waveforms))
    x_adv = np.zeros(shape + waveforms.shape[1:], np.float32)
    columns: dict[str, np.ndarray] = {}
    throughput = Throughput()
    for block in attack_rows(
        victim,
        waveforms,
        attacked,
        attack,
        epsilons,
        epsilon_unit=epsilon_unit,
        seed=seed,
        ids=ids,
        batch_size=batch_size,
        keep_x_adv=True,
        loop=loop,
        refill=refill,
        draws=draws,
        devices=devices,
        clean=clean,
    ):
        where = (block.epsilon_index, block.utterance)
        x_adv[where] = block.x_adv
        for name in (*RESULT_COLUMNS, *MEASURES):
            values = block.measures[name] if name in MEASURES else getattr(block, name)
            columns.setdefault(name, np.zeros(shape, values.dtype))[where] = values
        throughput = block.throughput
    return AttackResult(
        attack=attack,
        epsilons=tuple(float(epsilon) for epsilon in epsilons),
        epsilon_unit=epsilon_unit,
        labels=attacked,
        clean_prediction=clean.prediction,
        x_adv=x_adv,
        measures={name: columns[name] for name in MEASURES},
        throughput=dataclasses.replace(
            throughput,
            compile_seconds=compile_seconds() - seconds_before,
            compile_count=compile_count() - count_before,
        ),
        **{name: columns[name] for name in RESULT_COLUMNS},
    )


def predict(
    victim: Victim | LogitsFn,
    waveforms: Shaped[Any, "batch ..."],
    *,
    subset: Int[np.ndarray, " rows"] | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Int[np.ndarray, " rows"]:
    """Clean predictions, -1 where logits are not finite; see :func:`clean_pass`."""
    check_victim(victim)
    mesh = _mesh(devices)
    source = Source(waveforms, subset, None, _input_bounds(victim))
    size = score_rows_of(victim, batch_size, len(source), mesh)
    return look(victim, source, 0, mesh, size, oddities=False).prediction


def clean_pass(
    victim: Victim | LogitsFn,
    waveforms: Shaped[Any, "batch ..."],
    *,
    subset: Int[np.ndarray, " rows"] | None = None,
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> CleanPass:
    """What the victim makes of the clean inputs: predictions, and what is odd about its outputs.

    Whether the victim is randomised is seen by a second pass over the first batch, and whether its
    logits of an input depend on the others in its batch by passes over a few inputs alone.

    Args:
      victim: see :func:`run_attack`.
      waveforms: clean inputs; a memory map is read batch by batch.
      subset: positions to look at; all by default.
      seed: of a randomised victim's noise.
      ids: one name or number per input, which its noise depends on.
      batch_size: rows per batch over all devices.
      devices: to run on; all local ones by default.
    """
    check_victim(victim)
    mesh = _mesh(devices)
    source = Source(waveforms, subset, ids, _input_bounds(victim))
    return look(victim, source, seed, mesh, score_rows_of(victim, batch_size, len(source), mesh))


def attack_rows(
    victim: Victim | LogitsFn,
    waveforms: Shaped[Any, "batch ..."],
    labels: Shaped[np.ndarray, "..."],
    attack: Attack | AttackSequence,
    epsilons: Sequence[float] | float,
    *,
    epsilon_unit: EpsilonUnit = "amplitude",
    subset: Int[np.ndarray, " rows"] | None = None,
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    batch_size: int | None = None,
    keep_x_adv: bool = False,
    loop: Loop | None = None,
    refill: bool = True,
    draws: int = 5,
    devices: Sequence[jax.Device] | None = None,
    clean: CleanPass | None = None,
    watch: Watch | None = None,
) -> Iterator[RowBlock]:
    """Attack every input at every ε and yield rows as they finish, in no particular order.

    Memory does not grow with the number of rows: ``waveforms`` may be a memory map, of which
    only the batch at work is read.

    Args:
      subset: positions in ``waveforms`` to attack; ``labels``, ``ids`` and the blocks'
        ``utterance`` count along it. All by default.
      labels: ``[rows]``; None is none here.
      keep_x_adv: bring the adversarial inputs to the host.
      clean: what :func:`clean_pass` found with the same ``subset``, ``seed`` and ``ids``; made
        here by default.
      watch: called with a :class:`jaxser.driver.meter.Progress` about twice a second while steps
        are taken; where it returns False the finished rows come out and the iterator ends.

    The other arguments and the errors are those of :func:`run_attack`.
    """
    check_victim(victim)
    epsilons = checked_epsilons(epsilons)
    number_of_draws = checked_count("draws", draws)
    mesh, attack = _mesh(devices), _with_bounds(checked_attack(attack), victim)
    source = Source(waveforms, subset, ids, _input_bounds(victim, attack))
    # Features that were computed from files may lie outside: whoever computed them says so.
    check_within(source, _valid_range(victim, attack) if len(source.input_shape) == 1 else None)
    # Rows of all ε are scored together, so that a few utterances at many ε fill a batch.
    score_rows = score_rows_of(victim, batch_size, len(source), mesh, len(epsilons))
    machine = make_machine(
        victim, source.input_shape, attack=None, mesh=mesh, slots=score_rows, score_rows=score_rows
    )
    num_classes = machine.victim.num_classes
    norm = check_budgets(attack, epsilons, epsilon_unit, num_classes)
    labels = checked_labels(labels, len(source), num_classes)
    if clean is None:
        clean = look(victim, source, seed, mesh, score_rows)
    noisy = machine.victim.randomised or bool((clean.flags & RANDOMISED).any())
    work = Work(
        source=source,
        inputs=Inputs(source, mesh),
        labels=labels,
        ids=source.ids,
        budgets=amplitudes(source, epsilons, epsilon_unit, norm),
        clean=clean,
        key=run_key(seed, mesh),
        targeted=attack.targeted,
        keep_x_adv=keep_x_adv,
        draws=number_of_draws if noisy else 1,
    )
    meter = Meter()
    run = Run(
        victim=victim,
        work=work,
        mesh=mesh,
        batch_size=batch_size,
        score_rows=score_rows,
        loop=loop,
        refill=refill,
        meter=meter,
        watcher=Watcher(watch, meter),
    )
    if isinstance(attack, AttackSequence):
        return sequence_stream(members(attack, num_classes), work, run.rows, meter, run.watcher)
    return run.rows(attack, np.ones(work.budgets.shape, bool))


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh:
    return make_mesh(checked_devices(devices))


def _input_bounds(victim: Victim | LogitsFn, attack: Any = None) -> Bounds:
    """Bounds that say in which unit inputs are: the victim's, or a bare function's attack's."""
    if isinstance(victim, Victim):
        return victim.bounds
    return _DEFAULT_BOUNDS if attack is None else attack.bounds


def _with_bounds(
    attack: Attack | AttackSequence, victim: Victim | LogitsFn
) -> Attack | AttackSequence:
    """The attack within the victim's bounds, unless it has bounds of its own."""
    if isinstance(victim, Victim) and attack.bounds == _DEFAULT_BOUNDS:
        return dataclasses.replace(attack, bounds=victim.bounds)  # type: ignore[type-var]
    return attack


def _valid_range(victim: Victim | LogitsFn, attack: Attack | AttackSequence) -> Bounds:
    """Where inputs may lie: within the victim's bounds, or in those that an attack adds to them."""
    bounds = _input_bounds(victim, attack)
    if bounds is None or attack.bounds is None:
        return bounds
    # An attack's own may be narrower, too: they are where it may put a sample.
    return min(bounds[0], attack.bounds[0]), max(bounds[1], attack.bounds[1])
