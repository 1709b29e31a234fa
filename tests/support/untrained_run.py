"""A run folder with an untrained network on a small CSV corpus, as training would leave it."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
import yaml
from flax import linen as nn
from tiny_networks import Tiny

from jaxser import models
from jaxser.config import CorpusConfig, TrainConfig, to_mapping
from jaxser.corpora.selection import select
from jaxser.runtime.checkpoint import Checkpoints

LABELS = ("anger", "joy", "sadness")
RATE, SECONDS = 8_000, 0.25


def make_run(root: Path, model: nn.Module | None = None, scale: float = 0.1) -> Path:
    """``root/run``, with its speech in ``root/speech``: six test utterances.

    The network is an Emo18, which any process can load, unless ``model`` is given; ``scale`` is
    the standard deviation of its weights.
    """
    write_corpus(root / "speech", LABELS)
    config = TrainConfig(
        out=root / "run",
        corpus=CorpusConfig(
            name="csv",
            root=root / "speech",
            split="given",
            sample_rate=RATE,
            seconds=SECONDS,
            cache_dir=root / "cache",
        ),
    )
    prepared = select(config.corpus)
    if model is None:
        model = models.build("emo18", num_classes=len(LABELS))
    x = jnp.zeros((1, config.corpus.num_samples))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda s: rng.normal(0, scale, s.shape).astype(s.dtype), shapes)
    variables = {**weights, "batch_stats": jax.tree.map(np.abs, weights["batch_stats"])}
    checkpoints = Checkpoints(root / "run" / "checkpoints")
    checkpoints.save_best(1, variables)
    checkpoints.close()
    facts = {
        "labels": list(prepared.corpus.labels),
        "corpus": {"notes": ["made for a test"], "fingerprint": prepared.fingerprint},
    }
    (root / "run" / "run.json").write_text(json.dumps(facts))
    (root / "run" / "config.yaml").write_text(yaml.safe_dump(to_mapping(config)))
    return root / "run"


def make_tiny_run(root: Path) -> Path:
    """The same with a network that compiles at once, to be loaded under ``use_tiny_networks``."""
    return make_run(root, Tiny(len(LABELS)), scale=1.0)


def write_corpus(folder: Path, labels: tuple[str, ...]) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,label,speaker,gender,split"]
    for i in range(12):
        split = "train" if i < 4 else "val" if i < 6 else "test"
        name = f"part{i % 2}/u{i}.wav"
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, 0.3 * rng.uniform(-1, 1, int(RATE * SECONDS)), RATE)
        lines.append(f"{name},{labels[i % len(labels)]},s{i // 3},{'mf'[i % 2]},{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
