"""The driver: one stream, nothing recompiled, the same rows whatever the loop and the refilling."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from toy_attacks import Listening, Waiting

import jaxser
from jaxser import run_attack
from jaxser.attacks import FGSM, PGD, SparsePGD
from jaxser.attacks.base import AttackState, LogitsFn
from jaxser.driver.meter import Progress
from jaxser.driver.run import attack_rows, predict
from jaxser.results.perturbation import MEASURES, perturbation_measures
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

ONE_DEVICE = jax.devices()[:1]
EARLY = PGD(steps=12, early_stop=True)


def victim_with(apply: Callable[..., Any], **changes: Any) -> Victim:
    victim = small_victims.small_victim("conv")
    fields = {name: getattr(victim, name) for name in ("variables", "labels", "input_shape")}
    return Victim(apply=apply, **{**fields, **changes})


def traced_victim() -> tuple[Victim, list[tuple[int, ...]]]:
    """A victim that notes every trace of its function."""
    traces: list[tuple[int, ...]] = []

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        traces.append(x.shape)
        return small_victims.conv_apply(variables, x)

    return victim_with(apply), traces


def test_shapes_and_consistency() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(7)
    y = small_victims.labels(7)
    result = jaxser.run_attack(victim, x, y, FGSM(), epsilons=[0.01, 0.05, 0.1], batch_size=4)
    assert result.x_adv.shape == (3, 7, 64)
    assert result.x_adv.dtype == np.float32
    for values in (result.success, result.queries, result.gradients, result.flags):
        assert values.shape == (3, 7)
    for e in range(3):
        expected = np.asarray(victim.logits(jnp.asarray(result.x_adv[e]))).argmax(axis=1)
        np.testing.assert_array_equal(result.prediction[e], expected)
        measures = perturbation_measures(jnp.asarray(x), jnp.asarray(result.x_adv[e]))
        for name in MEASURES:
            np.testing.assert_allclose(result.measures[name][e], measures[name], rtol=1e-5)
    np.testing.assert_array_equal(result.success, result.prediction != y[None])
    clean = np.asarray(victim.logits(jnp.asarray(x))).argmax(axis=1)
    np.testing.assert_array_equal(result.clean_prediction, clean)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=3)])
def test_nothing_recompiles_for_epsilon_labels_seed_or_variables(attack: Any) -> None:
    victim, traces = traced_victim()
    x = small_victims.waveforms(9)
    options = {"batch_size": 4, "devices": ONE_DEVICE}
    first = run_attack(victim, x, small_victims.labels(9), attack, [0.01, 0.1], **options)
    assert first.throughput.compile_seconds > 0
    seen = len(traces)
    other = victim_with(victim.apply, variables=jax.tree.map(lambda v: 1.1 * v, victim.variables))
    for which, labels, epsilons, seed in (
        (victim, small_victims.labels(9), [0.02], 1),
        (victim, small_victims.labels(9, seed=8), [0.01, 0.02, 0.03], 2),
        (other, None, [0.3], 0),
    ):
        again = run_attack(which, x[::-1], labels, attack, epsilons, seed=seed, **options)
        assert again.throughput.compile_seconds == 0
    assert len(traces) == seen
    # The variables are an argument, not a constant: the other victim's are used.
    expected = np.asarray(other.logits(jnp.asarray(again.x_adv[0]))).argmax(axis=1)
    np.testing.assert_array_equal(again.prediction[0], expected)


def test_a_sweep_over_sixteen_epsilons_compiles_one_step_once() -> None:
    @chex.assert_max_traces(n=1)
    def step(state: AttackState, logits: jax.Array) -> AttackState:
        return dataclasses.replace(
            state, done=jnp.ones_like(state.done), x_adv=state.x + 0 * logits.sum()
        )

    class Traced(PGD):
        def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
            return step(state, logits_fn(state.x))

    x = small_victims.waveforms(9)
    options = {"batch_size": 4, "devices": ONE_DEVICE}
    victim = victim_with(lambda variables, x: small_victims.conv_apply(variables, x))
    sweep = run_attack(victim, x, None, Traced(), [0.01 * i for i in range(1, 17)], **options)
    assert sweep.throughput.rows == 9 * 16
    # The score, the start and the step of the rows; and their way out, which other attacks share.
    assert sweep.throughput.compile_count in (3, 4)
    again = run_attack(victim, x, None, Traced(), [0.5], **options)
    assert again.throughput.compile_count == 0


def test_labels_none_attacks_the_prediction() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(9)
    result = run_attack(victim, x, None, FGSM(), [0.05], batch_size=4, devices=ONE_DEVICE)
    np.testing.assert_array_equal(result.labels, result.clean_prediction)


@pytest.fixture(scope="module")
def early() -> Any:
    """Early-stopped PGD over 30 utterances and two ε, refilled, by the host loop."""
    return run_early()


def run_early(**options: Any) -> Any:
    x = small_victims.waveforms(30)
    settings = {"batch_size": 8, "devices": ONE_DEVICE, "seed": 3, **options}
    return run_attack(small_victims.small_victim("conv"), x, None, EARLY, [0.01, 0.06], **settings)


def test_refilling_changes_no_row_and_saves_steps(early: Any) -> None:
    without = run_early(refill=False)
    np.testing.assert_array_equal(without.x_adv, early.x_adv)
    np.testing.assert_array_equal(without.steps, early.steps)
    np.testing.assert_array_equal(without.flags, early.flags)
    np.testing.assert_array_equal(without.success, early.success)
    assert len(np.unique(early.steps)) > 2  # rows did finish at different times
    for result in (early, without):
        cost = result.throughput
        assert cost.rows == 60
        assert cost.row_steps - cost.wasted_row_steps == result.steps.sum()
    assert early.throughput.wasted_row_steps < 0.5 * without.throughput.wasted_row_steps


@pytest.mark.parametrize("refill", [True, False])
def test_the_device_loop_gives_the_same_rows(early: Any, refill: bool) -> None:
    looped = run_early(loop="device", refill=refill)
    np.testing.assert_allclose(looped.x_adv, early.x_adv, atol=1e-6)
    np.testing.assert_array_equal(looped.steps, early.steps)
    np.testing.assert_array_equal(looped.queries, early.queries)
    np.testing.assert_array_equal(looped.success, early.success)


@pytest.mark.parametrize("loop", ["host", "device"])
def test_a_slot_on_each_of_two_devices(early: Any, loop: Any) -> None:
    """The smallest batch: one device's row ends while the other's is at work."""
    result = run_early(batch_size=2, devices=jax.devices()[:2], loop=loop)
    np.testing.assert_allclose(result.x_adv, early.x_adv, atol=1e-5)
    np.testing.assert_array_equal(result.steps, early.steps)
    np.testing.assert_array_equal(result.success, early.success)


def test_fixed_steps_waste_nothing_but_the_last_padding() -> None:
    x = small_victims.waveforms(11)
    result = run_attack(
        small_victims.small_victim("conv"),
        x,
        None,
        PGD(steps=3),
        [0.01, 0.02, 0.05],
        batch_size=8,
        devices=ONE_DEVICE,
    )
    # 33 rows in batches of 8: four full ones and one row.
    assert result.throughput.row_steps == 5 * 8 * 3
    assert result.throughput.wasted_row_steps == 7 * 3
    assert (result.queries == 3).all()
    assert (result.gradients == 3).all()


@pytest.mark.parametrize(("count", "epsilons"), [(16, 10), (11, 7), (3, 5)])
def test_an_fgsm_sweep_costs_one_gradient_per_utterance(count: int, epsilons: int) -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(count)
    budgets = [0.01 * (i + 1) for i in range(epsilons)]
    sweep = run_attack(victim, x, None, FGSM(), budgets, batch_size=8, devices=ONE_DEVICE)
    assert sweep.throughput.rows == count * epsilons
    assert sweep.throughput.row_steps == -(-count // 8) * 8  # one gradient per batch of utterances
    assert sweep.throughput.row_steps - sweep.throughput.wasted_row_steps == count
    assert (sweep.gradients == 1).all()
    for e in (0, epsilons - 1):
        np.testing.assert_allclose(sweep.measures["linf"][e], budgets[e], rtol=1e-4)


def test_fgsm_at_sixteen_epsilons_takes_one_backward_pass() -> None:
    """Counted where it runs: in the victim."""
    forward: list[int] = []
    backward: list[int] = []

    @jax.custom_vjp
    def counted(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: forward.append(len(x)))
        return x

    def ahead(x: jax.Array) -> tuple[jax.Array, None]:
        return counted(x), None

    def back(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        jax.debug.callback(lambda: backward.append(len(gradient)))
        return (gradient,)

    counted.defvjp(ahead, back)
    victim = victim_with(lambda variables, x: small_victims.conv_apply(variables, counted(x)))
    x, budgets = small_victims.waveforms(8), [0.01 * i for i in range(1, 17)]
    options = {"batch_size": 8, "devices": ONE_DEVICE}
    result = run_attack(victim, x, None, FGSM(), budgets, **options)
    jax.effects_barrier()
    assert result.success.shape == (16, 8)
    assert backward == [8]
    # Two clean passes, two rows alone, the gradient's own, and one for each ε.
    assert forward == [8] * (2 + 2 + 1 + 16)


def test_the_shared_direction_is_the_step() -> None:
    victim, x = small_victims.small_victim("conv"), jnp.asarray(small_victims.waveforms(5))
    y, epsilon = jnp.asarray(small_victims.labels(5)), jnp.full(5, 0.03)
    attack = FGSM()
    keys = jax.random.split(jax.random.key(0), 5)
    state = attack.step(victim.logits, attack.init(victim.logits, keys, x, y, epsilon))
    along, _ = attack.direction(victim.logits, x, y)
    np.testing.assert_array_equal(attack.move(x, along, epsilon), state.x_adv)


# Mean steps 10; geometric, and so heavy a tail that single rows take dozens of times the mean.
UNEQUAL = [Waiting(), Waiting(mean=4.0, tail=1.5)]


@pytest.mark.parametrize("attack", UNEQUAL, ids=["geometric", "heavy tail"])
@pytest.mark.parametrize("loop", ["host", "device"])
def test_little_is_wasted_on_rows_that_end_at_different_times(
    attack: Any, loop: Any, monkeypatch: Any
) -> None:
    import jaxser.driver.memory

    monkeypatch.setattr(jaxser.driver.memory, "available_cores", lambda: 2)
    x = small_victims.waveforms(256)
    results = [
        run_attack(
            small_victims.small_victim("conv"),
            x,
            None,
            attack,
            [0.1],
            loop=loop,
            refill=refill,
            devices=ONE_DEVICE,
        )
        for refill in (True, False)
    ]
    np.testing.assert_array_equal(results[0].steps, results[1].steps)
    assert results[0].steps.max() > 4 * results[0].steps.mean()
    costs = [result.throughput for result in results]
    for cost, result in zip(costs, results, strict=True):
        assert cost.row_steps - cost.wasted_row_steps == result.steps.sum()
    assert costs[0].wasted_row_steps < 0.15 * costs[0].row_steps
    assert costs[1].wasted_row_steps > 0.4 * costs[1].row_steps


def test_the_caller_sees_progress_and_may_stop(monkeypatch: Any) -> None:
    import jaxser.driver.meter

    monkeypatch.setattr(jaxser.driver.meter, "_SECONDS_BETWEEN_LOOKS", 0.0)
    seen: list[Progress] = []

    def watch(progress: Progress) -> bool:
        seen.append(progress)
        return progress.queries < 100

    rows = 0
    for block in attack_rows(
        small_victims.small_victim("conv"),
        small_victims.waveforms(40),
        small_victims.labels(40),
        Waiting(),
        [0.1],
        batch_size=4,
        devices=ONE_DEVICE,
        watch=watch,
    ):
        rows += len(block)
    # What was finished when it was stopped came out, and nothing else.
    assert 0 < rows < 40
    assert block.throughput.rows == rows
    assert [p.row_steps for p in seen] == [4 * (i + 1) for i in range(len(seen))]
    queries = [p.queries for p in seen]
    assert queries == sorted(queries)
    assert 100 <= queries[-1] <= 104
    assert all(p.seconds > 0 for p in seen)


def test_a_stopped_sweep_of_a_shared_direction_keeps_what_is_scored(monkeypatch: Any) -> None:
    import jaxser.driver.meter

    monkeypatch.setattr(jaxser.driver.meter, "_SECONDS_BETWEEN_LOOKS", 0.0)
    blocks = list(
        attack_rows(
            small_victims.small_victim("conv"),
            small_victims.waveforms(12),
            small_victims.labels(12),
            FGSM(),
            [0.1, 0.2],
            batch_size=4,
            devices=ONE_DEVICE,
            watch=lambda progress: progress.row_steps < 8,
        )
    )
    assert sum(len(block) for block in blocks) == 8 * 2


def test_finished_rows_do_not_wait_long_for_company(monkeypatch: Any) -> None:
    import jaxser.driver.scoring

    monkeypatch.setattr(jaxser.driver.scoring, "_SECONDS_TO_WAIT", 0.0)
    sizes = [
        len(block)
        for block in attack_rows(
            small_victims.small_victim("conv"),
            small_victims.waveforms(24),
            small_victims.labels(24),
            Waiting(),
            [0.1],
            batch_size=8,
            devices=ONE_DEVICE,
        )
    ]
    assert sum(sizes) == 24
    assert max(sizes) < 8


def test_states_with_more_leaves_and_a_forward_pass_at_the_start() -> None:
    x = small_victims.waveforms(6)
    victim = small_victims.small_victim("conv")
    result = run_attack(victim, x, None, Listening(), [0.1], batch_size=4, devices=ONE_DEVICE)
    heard = result.x_adv[0][:, : 3 * small_victims.CLASSES].reshape(6, 3, small_victims.CLASSES)
    expected = np.asarray(victim.logits(jnp.asarray(x)))
    for step in range(3):
        np.testing.assert_allclose(heard[:, step], expected, rtol=1e-4, atol=1e-4)


def test_rows_stream_from_a_memory_map(tmp_path: Path) -> None:
    x = small_victims.waveforms(40)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    subset = np.arange(3, 40, 3)
    victim, labels = small_victims.small_victim("conv"), small_victims.labels(len(subset))
    options = {"batch_size": 4, "devices": ONE_DEVICE, "ids": [f"u{i}" for i in subset]}
    seen: dict[tuple[int, int], np.ndarray] = {}
    for block in attack_rows(
        victim, mapped, labels, EARLY, [0.01, 0.1], subset=subset, keep_x_adv=True, **options
    ):
        assert len(block.utterance) <= 4
        assert block.x_adv is not None
        for row, key in enumerate(zip(block.utterance, block.epsilon_index, strict=True)):
            assert key not in seen
            seen[key] = block.x_adv[row]
        assert block.seconds.sum() > 0
    whole = run_attack(victim, x[subset], labels, EARLY, [0.01, 0.1], **options)
    assert len(seen) == 2 * len(subset)
    for (utterance, e), x_adv in seen.items():
        np.testing.assert_array_equal(x_adv, whole.x_adv[e, utterance])
    np.testing.assert_array_equal(
        predict(victim, mapped, subset=subset, batch_size=4, devices=ONE_DEVICE),
        whole.clean_prediction,
    )


def test_seconds_leave_out_compilation_and_the_caller() -> None:
    import time

    victim, _ = traced_victim()
    total, last = 0.0, None
    for block in attack_rows(
        victim,
        small_victims.waveforms(24),
        small_victims.labels(24),
        PGD(steps=2),
        [0.1],
        batch_size=8,
        devices=ONE_DEVICE,
    ):
        time.sleep(0.5)
        total += block.seconds.sum()
        last = block.throughput
    assert last is not None
    assert last.seconds == pytest.approx(total)
    assert last.seconds < 0.5
    assert last.compile_seconds > 0
    assert last.rows_per_second == pytest.approx(24 / total)


def test_every_epsilon_of_a_sweep_bears_its_share_of_the_gradient(monkeypatch: Any) -> None:
    """With a clock that ticks only while the gradient runs, all ε cost the same."""
    import jaxser.driver.meter
    import jaxser.driver.run

    victim = small_victims.small_victim("conv")
    arguments = (victim, small_victims.waveforms(16), small_victims.labels(16), FGSM())
    options = {"batch_size": 16, "devices": ONE_DEVICE}
    run_attack(*arguments, [0.1], **options)  # compiles
    clock = [0.0]
    monkeypatch.setattr(jaxser.driver.meter.time, "perf_counter", lambda: clock[0])
    mesh = jaxser.driver.run.make_mesh(ONE_DEVICE)
    direction = jaxser.driver.run.make_machine(
        victim, (64,), attack=FGSM(), mesh=mesh, slots=16, score_rows=16
    ).attack.direction

    def ticking(_: Any, *inputs: Any) -> Any:
        clock[0] += 6.0
        return real(direction, *inputs)

    real = type(direction).__call__
    monkeypatch.setattr(
        type(direction),
        "__call__",
        lambda program, *inputs: (ticking if program is direction else real)(program, *inputs),
    )
    seconds = np.zeros(3)
    for block in attack_rows(*arguments, [0.1, 0.2, 0.3], **options):
        np.add.at(seconds, block.epsilon_index, block.seconds)
    np.testing.assert_allclose(seconds, 2.0)
    assert block.throughput.seconds == pytest.approx(6.0)


def test_any_function_can_be_attacked() -> None:
    weights = small_victims.conv_weights()

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x: jax.Array) -> jax.Array:
            return small_victims.conv_apply(weights, x)

    x = small_victims.waveforms(6)
    options = {"batch_size": 6, "devices": ONE_DEVICE}
    function = Unhashable()
    result = run_attack(function, x, None, FGSM(), [0.05], **options)
    again = run_attack(function, x, None, FGSM(), [0.05], **options)
    assert again.throughput.compile_seconds == 0
    named = run_attack(small_victims.small_victim("conv"), x, None, FGSM(), [0.05], **options)
    np.testing.assert_allclose(result.x_adv, named.x_adv, atol=1e-6)


def test_images_and_other_bounds() -> None:
    """Inputs of any shape; the victim's bounds replace the default ones, not the user's."""

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1) @ variables

    rng = np.random.default_rng(0)
    variables = jnp.asarray(rng.normal(size=(2 * 3 * 4, 3)), jnp.float32)
    x = rng.uniform(0, 9, (5, 2, 3, 4)).astype(np.float32)
    shape = {"variables": variables, "labels": ("a", "b", "c"), "input_shape": (2, 3, 4)}
    options = {"batch_size": 5, "devices": ONE_DEVICE}
    free = run_attack(victim_with(apply, bounds=None, **shape), x, None, FGSM(), [2.0], **options)
    np.testing.assert_allclose(np.abs(free.x_adv[0] - x), 2.0, rtol=1e-5)
    boxed = victim_with(apply, bounds=(0.0, 9.0), **shape)
    held = run_attack(boxed, x, None, FGSM(), [2.0], **options)
    assert held.x_adv.min() >= 0
    assert held.x_adv.max() <= 9
    own = run_attack(boxed, x, None, SparsePGD(bounds=(1.0, 8.0)), [2.0], **options)
    changed = own.x_adv[0] != x
    assert own.x_adv[0][changed].min() >= 1
    assert own.x_adv[0][changed].max() <= 8


def test_the_measures_against_numpy_and_undefined_ones() -> None:
    x = np.array([[0.5, -0.8, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    delta = np.array([[0.01, 0.0, -0.02, 0.0], [0.1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    got = {k: np.asarray(v) for k, v in perturbation_measures(jnp.asarray(x), x + delta).items()}
    assert set(got) == set(MEASURES)
    row = {name: values[0] for name, values in got.items()}
    assert row["l0"] == 2
    assert row["sparsity"] == 0.5
    assert row["l1"] == pytest.approx(0.03, rel=1e-4)
    assert row["mean_abs"] == pytest.approx(0.0075, rel=1e-4)
    assert row["l2"] == pytest.approx(np.sqrt(5e-4), rel=1e-4)
    assert row["linf"] == pytest.approx(0.02, rel=1e-4)
    assert row["snr_peak"] == pytest.approx(20 * np.log10(0.8 / 0.02), rel=1e-4)
    assert row["snr_power"] == pytest.approx(10 * np.log10(0.9 / 5e-4), rel=1e-4)
    for name in ("snr_peak", "snr_power"):
        assert np.isnan(got[name][1:]).all()  # no signal; no perturbation


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"epsilons": []}, UsageError, "no epsilon"),
        ({"epsilons": [0.0]}, UsageError, "positive and finite"),
        ({"epsilons": [float("nan")]}, UsageError, "positive and finite"),
        ({"epsilons": [float("inf")]}, UsageError, "positive and finite"),
        ({"labels": [0, 1]}, InputError, "one per input"),
        ({"labels": [0, 1, 5]}, InputError, "label 5 is not a class"),
        ({"labels": [0, 1, -1]}, InputError, "label -1 is not a class"),
        ({"labels": [0.0, 1.0, 2.0]}, InputError, "class indices"),
        ({"waveforms": np.zeros(64, np.float32)}, InputError, "add an axis"),
        ({"waveforms": np.zeros((3, 63), np.float32)}, InputError, "takes inputs of shape"),
        ({"waveforms": np.full((3, 64), np.nan, np.float32)}, InputError, "NaN or infinity"),
        ({"attack": "pgd"}, UsageError, "is not an attack"),
        ({"batch_size": 0}, UsageError, "batch_size must be"),
        ({"loop": "both"}, UsageError, "loop must be"),
        ({"ids": ["a"]}, InputError, "1 ids"),
    ],
)
def test_bad_arguments_get_one_sentence(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments = {
        "victim": small_victims.small_victim("conv"),
        "waveforms": small_victims.waveforms(3),
        "labels": [0, 1, 2],
        "attack": PGD(steps=1),
        "epsilons": [0.1],
        "batch_size": 3,
        "devices": ONE_DEVICE,
        **changes,
    }
    # A checker of annotations, where the tests run under one, would answer first.
    unchecked = inspect.unwrap(run_attack)
    with pytest.raises(error, match=words) as caught:
        unchecked(**arguments)
    assert "\n" not in str(caught.value)


def test_a_function_that_returns_no_logits_is_refused() -> None:
    with pytest.raises(InputError, match="at least two classes"):
        run_attack(lambda x: x[:, :1], small_victims.waveforms(2), [0, 0], FGSM(), [0.1])
    with pytest.raises(InputError, match="at least two classes"):
        run_attack(lambda x: x.sum(axis=0), small_victims.waveforms(2), [0, 0], FGSM(), [0.1])
