"""Every attack on victims that read images, in each of their domains; and all six networks."""

import functools
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from test_row_independence import FIRST_OF_EACH

from jaxser import models, run_attack
from jaxser.attacks import BIM, EOTPGD, FGSM, MIFGSM, PGD, Pixle, Square
from jaxser.models.image_front_end import WithImage
from jaxser.speech.images import SpectrogramImage, image_spectrogram
from jaxser.victims.image_domains import in_image_domain
from jaxser.victims.victim import Victim, evaluation_logits

CLASSES, SIZE, SAMPLES, ROWS = 3, 16, 450, 8
DOMAINS = ("waveform", "spectrogram", "image")

# The six, as small as they go.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "echim_cnn_lstm": (
        "echim_cnn_lstm",
        {"image_size": 16, "channels": (3, 4), "units": 4, "hidden": 6},
    ),
    "alexnet": (
        "alexnet",
        {"image_size": 63, "channels": (3, 4, 4, 4, 3), "hidden": 6, "imagenet_classes": 7},
    ),
    "vgg16": (
        "vgg16",
        {"image_size": 16, "blocks": ((3,), (4,)), "hidden": 6, "imagenet_classes": 7},
    ),
    "vit": (
        "vit-b16",
        {
            **{"image_size": 16, "width": 8, "depth": 1, "heads": 2, "mlp": 8},
            **{"patch": 8, "imagenet_classes": 7},
        },
    ),
    "cvt": (
        "cvt-13",
        {
            **{"image_size": 32, "widths": (4, 6, 8), "depths": (1, 1, 1), "heads": (1, 2, 2)},
            **{"drop_path": (0.0, 0.0, 0.0), "imagenet_classes": 7},
        },
    ),
    "levit": (
        "levit-256",
        {
            **{"image_size": 48, "widths": (8, 12, 16), "depths": (1, 1, 1), "heads": (1, 2, 2)},
            **{"key_size": 4, "imagenet_classes": 7},
        },
    ),
}

# The benchmark's, at its settings but for the sizes of Pixle's patches.
BENCHMARK = [
    FGSM(),
    BIM(steps=2, step_size=4 / 255),
    MIFGSM(steps=2, step_size=4 / 255, decay=0.9),
    PGD(steps=2, step_size=4 / 255),
    EOTPGD(steps=2, step_size=4 / 255, samples=2),
    Pixle(x_dimensions=(2, 6), y_dimensions=(2, 6), restarts=2, iterations=2),
    Square(queries=20, restarts=1),
]


class Shallow(nn.Module):
    """A convolution and a sum: what compiles at once."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.Conv(4, (4, 4), (4, 4), padding="VALID")(x - 0.4)
        return nn.Dense(self.num_classes)(jnp.tanh(3 * y).reshape(len(y), -1))


@functools.cache
def waveforms() -> np.ndarray:
    """Tones of several pitches in noise, so that images differ."""
    rng = np.random.default_rng(0)
    time = np.arange(SAMPLES)
    tones = [np.sin(0.05 * (row + 1) * time) for row in range(ROWS)]
    return (0.4 * np.array(tones) + 0.05 * rng.normal(size=(ROWS, SAMPLES))).astype(np.float32)


@functools.cache
def victim(name: str, domain: Any) -> Victim:
    spectrogram = image_spectrogram("linear", n_fft=30, win_length=30, hop_length=30)
    if name == "shallow":
        size, network = SIZE, cast(nn.Module, Shallow(CLASSES))
    else:
        architecture, fields = NETWORKS[name]
        size, network = fields["image_size"], models.build(architecture, CLASSES, **fields)
    front_end = SpectrogramImage(spectrogram, samples=SAMPLES, size=size)
    model = WithImage(front_end, network, fixed_range=(-60.0, 20.0))
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), jnp.zeros((1, SAMPLES)))
    whole = Victim(
        apply=evaluation_logits(model),
        variables=variables,
        labels=("a", "b", "c"),
        input_shape=(SAMPLES,),
    )
    return in_image_domain(whole, model, domain)


@functools.cache
def inputs(name: str, domain: Any) -> np.ndarray:
    """What is attacked in a domain."""
    whole = victim(name, domain)
    assert whole.front_end is not None
    if domain == "waveform":
        return waveforms()
    return np.asarray(whole.front_end.features(whole.variables, jnp.asarray(waveforms())))


def attack_all(name: str, domain: str, attack: Any, order: np.ndarray, **options: Any) -> Any:
    minimal = getattr(attack, "minimal_norm", False)
    y = np.asarray(victim(name, domain).logits(inputs(name, domain))).argmax(axis=1)
    epsilon = math.inf if minimal else {"waveform": 0.05}.get(domain, 32 / 255)
    if getattr(attack, "epsilon_norm", "linf") == "l0":
        epsilon = 20.0
    return run_attack(
        victim(name, domain),
        inputs(name, domain)[order],
        y[order],
        attack,
        [epsilon],
        seed=3,
        ids=[f"u{i}" for i in order],
        batch_size=4,
        devices=jax.devices()[:1],
        **options,
    )


def check_own_rows(name: str, domain: str, attack: Any) -> None:
    """Inside the bounds and ε; what it says is so; the same whatever sits beside a row."""
    order = np.arange(ROWS)
    found = attack_all(name, domain, attack, order)
    x, (low, high) = inputs(name, domain), victim(name, domain).bounds or (-np.inf, np.inf)
    assert found.x_adv.shape == (1, *x.shape)
    assert low - 1e-6 <= found.x_adv.min() <= found.x_adv.max() <= high + 1e-6
    logits = np.asarray(victim(name, domain).logits(found.x_adv[0]))
    np.testing.assert_array_equal(logits.argmax(axis=1) != found.labels, found.success[0])
    minimal = getattr(attack, "minimal_norm", False)
    if not minimal and getattr(attack, "epsilon_norm", "linf") == "linf":
        assert found.measures["linf"].max() <= found.epsilons[0] * (1 + 1e-4) + 1e-6
    if getattr(attack, "optimizer", None) == "cma_es":
        return  # the last bits of eigenvectors depend on where a matrix lies in memory
    again = attack_all(name, domain, attack, order[::-1])
    np.testing.assert_array_equal(again.x_adv[0, ::-1], found.x_adv[0])


@pytest.mark.parametrize(
    ("attack", "domain"),
    [*((PGD(steps=2), domain) for domain in DOMAINS), (BENCHMARK[-2], "image")],
    ids=str,
)
def test_rows_are_their_own_in_every_domain(attack: Any, domain: str) -> None:
    check_own_rows("shallow", domain, attack)


# Colours are what has one axis more than elsewhere: they are attacked by all, and the two other
# domains, which pass the image's part of the front end or all of it, by every second attack each.
TURNS = [
    (attack, domain)
    for number, attack in enumerate(FIRST_OF_EACH)
    for domain in ("image", DOMAINS[number % 2])
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("attack", "domain"), [*TURNS, *((attack, "image") for attack in BENCHMARK)], ids=str
)
def test_every_attack_on_images_and_in_another_domain(attack: Any, domain: str) -> None:
    check_own_rows("shallow", domain, attack)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "domain"),
    # What lies before the image is the same for all networks.
    [*((name, "image") for name in NETWORKS), ("alexnet", "spectrogram"), ("vit", "waveform")],
)
def test_every_network_on_images(name: str, domain: str) -> None:
    check_own_rows(name, domain, PGD(steps=2))


def test_a_legal_change_is_told_from_one_of_colours_alone() -> None:
    """Levels that change by 0.1 are 8 of 80 dB; grey is far from every colour of the map."""
    image, levels = victim("shallow", "image"), victim("shallow", "spectrogram")
    assert image.front_end is not None
    assert levels.front_end is not None
    before = np.full((2, SIZE, SIZE, 1), 0.5, np.float32)
    after = before + np.array([0.0, 0.1], np.float32)[:, None, None, None]
    found = levels.front_end.measures(levels.variables, before, after)  # type: ignore[misc]
    np.testing.assert_allclose(found["decibel_change"], [0.0, 8.0], atol=1e-4)
    grey = np.full((2, SIZE, SIZE, 3), 0.5, np.float32)
    found = image.front_end.measures(image.variables, grey, grey)  # type: ignore[misc]
    # The nearest colours of the map are as far off as the table says.
    from matplotlib import colormaps

    table = colormaps["jet"](np.arange(256))[:, :3]
    nearest = np.linalg.norm(table - 0.5, axis=1).min()
    np.testing.assert_allclose(found["colour_distance"], nearest, rtol=1e-5)
    np.testing.assert_array_equal(found["decibel_change"], 0.0)
