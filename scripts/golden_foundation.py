"""Reference outputs of wav2vec 2.0, HuBERT and WavLM, computed by transformers' torch classes.

    python -m scripts.golden_foundation      # writes tests/golden/models_foundation.npz

Small configurations of every kind. Weights and inputs come from seeds alone, so that the tests make
them again and only the results are stored. Needs torch and transformers.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.foundation import import_transformers
from jaxser import models
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.speech_transformer import hubert_table, wav2vec2_table, wavlm_table

__all__ = [
    "CASES",
    "CLASSES",
    "INPUT_STRIDE",
    "TABLES",
    "import_transformers",
    "reference",
    "seeded_batch",
    "seeded_variables",
    "small_gradients",
    "small_model",
    "torch_config",
    "torch_model",
]

CLASSES = 5
INPUT_STRIDE = 7  # of the stored input gradients
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "models_foundation.npz"

TABLES = {
    "wav2vec2": wav2vec2_table,
    "hubert": hubert_table,
    "wavlm": wavlm_table,
}

_SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "conv_dim": (12, 12, 20),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 2),
    "num_conv_pos_embeddings": 10,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
    "do_normalize": False,
}

# name -> (family, what differs from the small configuration)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{family}-{norm}-{'stable' if stable else 'post'}{'-sum' if weighted else ''}": (
        family,
        {
            "feat_extract_norm": norm,
            "do_stable_layer_norm": stable,
            "use_weighted_layer_sum": weighted,
            "conv_bias": norm == "layer",
        },
    )
    for family, norm, stable, weighted in itertools.product(
        TABLES, ("group", "layer"), (False, True), (False, True)
    )
}
CASES["hubert-batch_norm"] = (
    "hubert",
    {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "num_conv_pos_embeddings": 9},
)


def small_model(case: str, **settings: Any) -> SpeechTransformer:
    """The module of a case."""
    family, different = CASES[case]
    model = models.build(f"{family}-base", CLASSES, **{**_SMALL, **different, **settings})
    assert isinstance(model, SpeechTransformer)
    return model


def seeded_variables(model: SpeechTransformer) -> dict[str, Any]:
    """Variables far enough from zero that every part of the model matters."""
    model = model.clone(scan_layers=False)
    x = jnp.zeros((1, model.config.shortest_input()))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(("scale']", "gain']", "constant']", "['var']")):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25
        return (rng.normal(size=leaf.shape) * 1.5 * fan_in**-0.5).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def seeded_batch(samples: int = 701, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms ``[rows, samples]`` with zeros after ``lengths``."""
    rng = np.random.default_rng(samples)
    lengths = np.linspace(samples, samples // 3, rows).astype(int)
    x = rng.normal(size=(rows, samples)) + np.sin(np.arange(samples) / 9)[None]
    return (x * (np.arange(samples)[None] < lengths[:, None])).astype(np.float32), lengths


def torch_config(model: SpeechTransformer, **settings: Any) -> Any:
    """transformers' configuration of the same architecture."""
    transformers = import_transformers()
    names = {"wav2vec2": "Wav2Vec2Config", "hubert": "HubertConfig", "wavlm": "WavLMConfig"}
    fields = dataclasses.asdict(model.config)
    return getattr(transformers, names[model.config.model_type])(
        **fields, num_labels=model.num_classes, attn_implementation="eager", **settings
    )


def torch_model(model: SpeechTransformer, variables: Mapping[str, Any] | None = None) -> Any:
    """transformers' classifier of the same architecture, with ``variables`` if given."""
    import torch

    transformers = import_transformers()
    twin = transformers.AutoModelForAudioClassification.from_config(torch_config(model))
    if variables is not None:
        state = to_torch(variables, TABLES[model.config.model_type](model.config))
        tensors = {key: torch.from_numpy(np.array(array)) for key, array in state.items()}
        absent, unexpected = twin.load_state_dict(tensors, strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in absent)
    return twin.eval()


def reference(twin: Any, x: np.ndarray, lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Logits, hidden states, and gradients of the sum of the squared logits, by PyTorch.

    Keys: "logits", "hidden/0" ..., "input" and "gradient/KEY OF THE STATE DICT".
    """
    import torch

    mask = None
    if lengths is not None:
        mask = torch.from_numpy((np.arange(x.shape[1])[None] < lengths[:, None]).astype(int))
    wave = torch.tensor(x, requires_grad=True)
    twin.zero_grad()
    out = twin(wave, attention_mask=mask, output_hidden_states=True)
    (out.logits**2).sum().backward()
    assert wave.grad is not None
    results = {"logits": out.logits.detach().numpy(), "input": wave.grad.numpy()}
    for index, state in enumerate(out.hidden_states):
        results[f"hidden/{index}"] = state.detach().numpy()
    for key, parameter in twin.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        results[f"gradient/{key}"] = gradient.numpy()
    return results


def small_gradients(state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Gradients of the arrays of at most 24 numbers, end to end, in the order of their keys."""
    return np.concatenate([state[key].ravel() for key in sorted(state) if state[key].size <= 24])


def main() -> None:
    """Write the golden file: logits, parts of the larger arrays, and the small gradients."""
    stored: dict[str, np.ndarray] = {}
    for case in CASES:
        model = small_model(case)
        twin = torch_model(model, seeded_variables(model))
        for samples, padded in ((701, False), (700, True)):
            x, lengths = seeded_batch(samples)
            results = reference(twin, x, lengths if padded else None)
            chosen = {
                "logits": results["logits"],
                "input": results["input"][:, ::INPUT_STRIDE],
                "last": results[f"hidden/{model.config.num_hidden_layers}"][:, ::9],
                "small": small_gradients(
                    {
                        key.removeprefix("gradient/"): array
                        for key, array in results.items()
                        if key.startswith("gradient/")
                    }
                ),
            }
            for key, array in chosen.items():
                stored[f"{case}/{samples}/{key}"] = array.astype(np.float32)
    np.savez_compressed(GOLDEN, **stored)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
