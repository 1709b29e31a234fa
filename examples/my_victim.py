"""A victim of one's own, in plain JAX: a linear classifier of log-mels, trained and attacked.

    python examples/my_victim.py

Anything from waveforms to logits can be attacked. What normalises the speech is inside the victim,
so that ε is of what is played.
"""

import jax
import jax.numpy as jnp
import optax

import jaxser
from jaxser.speech.features import Spectrogram

LOG_MEL = Spectrogram(kind="log_mel", n_fft=512, hop_length=256, n_mels=40)


def features(x):  # [batch, time] -> [batch, 80]: mean and deviation of every mel band
    mels = LOG_MEL(x)
    return jnp.concatenate([mels.mean(axis=1), mels.std(axis=1)], axis=1)


def logits_of(variables, x):  # [batch, time] -> [batch, classes]
    standardised = (features(x) - variables["mean"][None]) / variables["deviation"][None]
    return standardised @ variables["weights"]


def train(speech, steps=200):
    found = features(speech.x)
    variables = {"mean": found.mean(axis=0), "deviation": found.std(axis=0) + 1e-3}
    optimiser = optax.adam(0.05)

    def loss(w):
        logits = logits_of({**variables, "weights": w}, speech.x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, speech.y).mean()

    @jax.jit
    def update(weights, state):
        change, state = optimiser.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, change), state

    weights = jnp.zeros((found.shape[1], len(speech.labels)))
    state = optimiser.init(weights)
    for _ in range(steps):
        weights, state = update(weights, state)
    variables["weights"] = weights
    return jaxser.Victim(logits_of, variables, speech.labels, input_shape=speech.x.shape[1:])


if __name__ == "__main__":
    heard, unheard = (
        jaxser.corpora.load_split("synthetic", part=part, seconds=1.0, limit=200)
        for part in ("train", "test")
    )
    x, y, *_ = unheard
    attack = jaxser.attacks.PGD(steps=10)
    print(jaxser.run_attack(train(heard), x, y, attack, [1e-5, 1e-4]))
