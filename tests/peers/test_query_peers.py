"""Square and Pixle against torchattacks, and one pixel against ART, live, on the same weights.

All three are random searches with random numbers of their own, so success and the queries that it
took are compared over many inputs, within the standard error of the difference.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

from jaxser import run_attack
from jaxser.attacks.few_pixel import FewPixel
from jaxser.attacks.pixle import Pixle
from jaxser.attacks.square import Square

torch = pytest.importorskip("torch")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ONE = jax.devices()[:1]
ROWS = 150


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    return load_script("golden_query")


def inputs() -> tuple[Any, np.ndarray, np.ndarray]:
    """The small CNN, square spectrograms for it, and its predictions."""
    victim = small_victims.small_victim("spectrogram")
    x = small_victims.spectrograms(ROWS, seed=31)[:, :10]
    y = np.asarray(victim.logits(jnp.asarray(x))).argmax(axis=1)
    return lambda x: victim.apply(victim.variables, x), x, y


def ours(attack: Any, epsilon: float, x: np.ndarray | None = None) -> Any:
    apply, square, y = inputs()
    if x is not None:
        y = np.asarray(apply(jnp.asarray(x))).argmax(axis=1)
    return run_attack(
        apply, square if x is None else x, y, attack, [epsilon], batch_size=30, devices=ONE
    )


def assert_shares_agree(one: np.ndarray, other: np.ndarray) -> None:
    """Two shares of successes, three standard errors apart at most."""
    share = (one.mean() + other.mean()) / 2
    assert 0.15 < share < 0.85
    assert abs(one.mean() - other.mean()) < 3 * np.sqrt(2 * share * (1 - share) / ROWS)


class Counted:
    """A torch model that counts the rows it has seen."""

    def __init__(self, model: Any) -> None:
        counted = self

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, z: Any) -> Any:
                counted.rows += len(z)
                return self.model(z)

        self.rows = 0
        self.module = Model().eval()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.12), ("l2", 0.9)])
@pytest.mark.parametrize("targeted", [False, True])
def test_square(oracle: ModuleType, norm: Any, epsilon: float, targeted: bool) -> None:
    model, bounds = oracle.spectrogram_twin()
    apply, x, y = inputs()
    z = oracle.as_image(x, bounds)
    with torch.no_grad():
        np.testing.assert_allclose(model(z).numpy(), apply(jnp.asarray(x)), atol=1e-3)
    labels = y
    if targeted:
        labels = np.argsort(apply(jnp.asarray(x)), axis=1)[:, -2]
        epsilon = 1.3 * epsilon
    width = bounds[1] - bounds[0]
    queries = 60
    # With all rows in one call they share their windows; one by one each has its own.
    made, spent = [], []
    for row in range(ROWS):
        counted = Counted(model)
        attack = torchattacks.Square(
            counted.module,
            norm={"linf": "Linf", "l2": "L2"}[norm],
            eps=epsilon / width,
            n_queries=queries,
            loss="ce" if targeted else "margin",
            seed=row,
        )
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        # Their L2 start divides by a side that is zero under five rows, which these are not.
        made.append(attack(z[row : row + 1], torch.tensor(labels[row : row + 1]).long()))
        # The last pass scores what the search returned.
        spent.append(counted.rows - 1)
    with torch.no_grad():
        predicted = model(torch.cat(made)).numpy().argmax(axis=1)
    success = predicted == labels if targeted else predicted != labels

    settings: dict[str, Any] = {
        "norm": norm,
        "queries": queries,
        "targeted": targeted,
        "bounds": bounds,
    }
    attack = Square(compat="torchattacks", **settings)
    result = run_attack(apply, x, labels, attack, [epsilon], batch_size=30, devices=ONE)
    assert_shares_agree(result.success[0], success)
    # Queries, with failures at their full number.
    spent = np.array(spent)
    error = np.sqrt((result.queries[0].var() + spent.var()) / ROWS)
    assert abs(result.queries[0].mean() - spent.mean()) < 3 * error

    # Mended, it is at least as good.
    mended = run_attack(
        apply,
        x,
        labels,
        Square(**settings),
        [epsilon],
        batch_size=30,
        devices=ONE,
    )
    assert mended.success.mean() > success.mean() - 0.08
    assert mended.queries.mean() < spent.mean() + 2 * error


def test_square_on_a_wide_spectrogram(oracle: ModuleType) -> None:
    """Their L2 windows do not fit an input much wider than high; ours give it their area."""
    model, bounds = oracle.spectrogram_twin()
    apply, x, _ = inputs()
    wide = np.tile(x[:30], (1, 1, 10))
    y = np.asarray(apply(jnp.asarray(wide))).argmax(axis=1)
    z, labels = oracle.as_image(wide, bounds), torch.tensor(y).long()
    with pytest.raises(RuntimeError, match="size of tensor"):
        torchattacks.Square(model, norm="L2", eps=0.2, n_queries=5)(z, labels)
    result = ours(Square(norm="l2", queries=60, bounds=bounds), 5.0, wide)
    assert result.success.mean() > 0.3
    assert (result.measures["l2"] <= 5.0 * (1 + 1e-5)).all()


@pytest.mark.parametrize("mapping", ["random", "similarity_random", "distance"])
@pytest.mark.parametrize("update", [False, True])
def test_pixle(oracle: ModuleType, mapping: Any, update: bool) -> None:
    model, bounds = oracle.spectrogram_twin()
    apply, x, y = inputs()
    rows = ROWS if mapping == "random" else 60
    x, y = x[:rows], y[:rows]
    settings: dict[str, Any] = {"x_dimensions": (1, 2), "y_dimensions": (1, 1), "restarts": 2}
    np.random.seed(0)  # noqa: NPY002 - torchattacks draws from it
    images = []
    for row in range(rows):
        attack = torchattacks.Pixle(
            model,
            pixel_mapping=mapping,
            max_iterations=4,
            update_each_iteration=update,
            **settings,
        )
        z = oracle.as_image(x[row : row + 1], bounds)
        images.append(attack(z, torch.tensor(y[row : row + 1]).long()))
    made = oracle.from_image(torch.cat(images), bounds)
    with torch.no_grad():
        success = model(torch.cat(images)).numpy().argmax(axis=1) != y
    changed = (np.abs(made - x) > 1e-5).sum(axis=(1, 2))

    ours = Pixle(
        mapping=mapping,
        iterations=4,
        update_each_iteration=update,
        compat="torchattacks",
        **settings,
    )

    # Similarity is measured in their units, so that its softmax is the same.
    def in_unit_range(z: jax.Array) -> jax.Array:
        return apply(bounds[0] + (bounds[1] - bounds[0]) * z)

    unit = oracle.as_image(x, bounds)[:, 0].numpy()
    result = run_attack(in_unit_range, unit, y, ours, [1e4], batch_size=20, devices=ONE)
    share = (result.success[0].mean() + success.mean()) / 2
    assert 0.1 < share < 0.98
    tolerance = 3 * np.sqrt(2 * share * (1 - share) / rows)
    assert abs(result.success[0].mean() - success.mean()) < tolerance
    both = result.measures["l0"][0][result.success[0]], changed[success]
    error = np.sqrt(sum(each.var() / len(each) for each in both))
    assert abs(both[0].mean() - both[1].mean()) < 3 * error + 0.1


def test_pixle_needs_no_square_input(oracle: ModuleType) -> None:
    """Theirs exchanges rows and columns and leaves the input; ours does not."""
    model, bounds = oracle.spectrogram_twin()
    x = small_victims.spectrograms(30, seed=31)[:, :4]
    z = oracle.as_image(x, bounds)
    np.random.seed(0)  # noqa: NPY002 - torchattacks draws from it
    with pytest.raises(IndexError), torch.no_grad():
        torchattacks.Pixle(model)(z, model(z).argmax(dim=1))
    here = Pixle(restarts=5, bounds=small_victims.SPECTROGRAM_BOUNDS)
    assert ours(here, 1e4, x).success.mean() > 0.5


def test_one_pixel_by_differential_evolution(oracle: ModuleType) -> None:
    """ART's PixelAttack: any of 256 levels at the position, no ε."""
    from art.attacks.evasion import PixelAttack
    from art.estimators.classification import PyTorchClassifier

    model, bounds = oracle.spectrogram_twin()
    apply, x, _ = inputs()
    # The least likely class is a target that one pixel reaches in some of the inputs.
    y = np.argsort(apply(jnp.asarray(x)), axis=1)[:, 0]
    rows, pixels, generations = 40, 1, 2
    # ART descends what the model returns: probabilities, here.
    classifier = PyTorchClassifier(
        torch.nn.Sequential(model, torch.nn.Softmax(dim=1)),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(1, *x.shape[1:]),
        nb_classes=5,
        clip_values=(0.0, 1.0),
    )
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    attack = PixelAttack(classifier, th=pixels, es=1, max_iter=generations, targeted=True)
    z = oracle.as_image(x[:rows], bounds).numpy()
    theirs = attack.generate(z, np.eye(5)[y[:rows]])
    with torch.no_grad():
        success = model(torch.tensor(theirs)).numpy().argmax(axis=1) == y[:rows]

    # ART takes 400 // 3 members per variable: two positions and a value.
    ours = FewPixel(
        count=pixels,
        population=133 * 3,
        generations=generations,
        compat="art",
        bounds=bounds,
        targeted=True,
    )
    result = run_attack(
        apply, x[:rows], y[:rows], ours, [float(pixels)], batch_size=10, devices=ONE
    )
    share = (result.success[0].mean() + success.mean()) / 2
    assert 0.1 < share < 0.95
    # The same search on the same rows: they may differ where it is luck.
    assert (result.success[0] != success).mean() <= 0.15
    assert abs(result.success[0].mean() - success.mean()) < 0.1
    levels = (result.x_adv[0] - bounds[0]) / (bounds[1] - bounds[0]) * 255
    moved = result.x_adv[0] != x[:rows]
    np.testing.assert_allclose(levels[moved], np.round(levels[moved]), atol=1e-3)
