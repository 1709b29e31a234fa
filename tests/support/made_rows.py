"""Attack rows with figures that can be counted by hand."""

from typing import Any

import pyarrow as pa

from jaxser.results.schema import SCHEMA

NAN = float("nan")

# label, clean prediction, adversarial prediction, success, SNR peak, sparsity, gender
BY_HAND: list[tuple[Any, ...]] = [
    ("anger", "anger", "anger", False, 40.0, 1.0, "female"),
    ("anger", "anger", "joy", True, 30.0, 0.5, "female"),
    ("anger", "joy", "joy", True, 20.0, 0.1, "female"),  # wrong before, unchanged
    ("joy", "joy", "anger", True, 10.0, 0.3, "male"),
    ("joy", "anger", "joy", False, 50.0, 1.0, "male"),  # the attack put it right
    ("sad", "sad", None, False, 60.0, 1.0, "male"),  # non-finite logits
    ("sad", "anger", "joy", True, NAN, 0.2, "male"),
]


def columns(rows: list[tuple[Any, ...]] = BY_HAND, **changes: Any) -> dict[str, Any]:
    count = len(rows)
    label, clean, robust, success, snr, sparsity, gender = zip(*rows, strict=True)
    values = {
        "victim": "emo18 runs/x",
        "victim_fingerprint": "f",
        "threat": "emo18 runs/x",
        "corpus": "Made up",
        "language": "none",
        "synthetic": True,
        "notes": ["made up"],
        "split": "test",
        "defence": None,
        "training_seconds": NAN,
        "training_compile_seconds": NAN,
        "training_device": None,
        "training_queries": None,
        "training_gradients": None,
        "smoothing": NAN,
        "smoothing_samples": None,
        "domain": "waveform",
        "output": "logits",
        "label_source": "truth",
        "targeted": False,
        "attack": "pgd",
        "parameters": '{"steps": 3}',
        "parameters_hash": "h",
        "suite": None,
        "epsilon": 0.01,
        "epsilon_unit": "amplitude",
        "epsilon_norm": "linf",
        "epsilon_amplitude": 0.01,
        "amplitude": NAN,
        "stage": None,
        "found_norm": NAN,
        "seed": 0,
        "l0": 1.0,
        "l1": 1.0,
        "l2": 2.0,
        "linf": 0.01,
        "mean_abs": 0.1,
        "snr_power": 15.0,
        "stoi": NAN,
        **dict.fromkeys(("colour_distance", "decibel_change", "dead_gradients"), NAN),
        "steps": 3,
        "queries": 3,
        "gradients": 3,
        "flags": [],
        "device": "cpu",
        "seconds": 0.5,
        "compile_seconds": 2.0,
        "compile_count": 6,
        **changes,
    }
    return {
        **{name: [value] * count for name, value in values.items()},
        "utterance": [f"u{i}" for i in range(count)],
        "source": [f"u{i}" for i in range(count)],
        "speaker": [f"s{i // 2}" for i in range(count)],
        "gender": list(gender),
        "label": list(label),
        "attacked_label": list(label),
        "clean_prediction": list(clean),
        "prediction": list(robust),
        "success": list(success),
        "success_share": [float(each) for each in success],
        "clean_logits": [None] * count,
        "logits": [None] * count,
        "sparsity": list(sparsity),
        "snr_peak": list(snr),
    }


def table(**changes: Any) -> pa.Table:
    return pa.table(columns(**changes), schema=SCHEMA)
