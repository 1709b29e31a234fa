"""PyTorch's sides of a cell: the same weights and inputs on the same device, with torchattacks.

    for name, run in peer_runs(cell, drawn, x, y, compiled=True).items():
        run(until)                                     # to its end, or OutOfTime

Victims are the twins of ``benchmarks.torch_twins``, ``benchmarks.image_twins`` and transformers.
"""

import functools
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.victims import Drawn

__all__ = ["OutOfTime", "UnitVictim", "peer_runs", "placed", "twin_of_drawn"]

# Does the cell's work for a batch once, to the end.
Run = Callable[[float], None]


class OutOfTime(Exception):
    """The peer did not finish in time."""


def peer_runs(
    cell: Cell, drawn: Drawn, x: np.ndarray, y: np.ndarray, *, compiled: bool
) -> dict[str, Run]:
    """Side -> run; none where PyTorch or torchattacks has no counterpart.

    Args:
      cell: what is measured.
      drawn: the victim.
      x, y: inputs of the batch, and the labels to leave.
      compiled: also with ``torch.compile``, for passes and PGD.
    """
    named = _ATTACKS.get(cell.line.attack) if cell.line is not None else None
    if cell.line is not None and (named is None or not _has_torchattacks()):
        return {}
    twin, u = twin_of_drawn(drawn), placed(x, drawn)
    forms = [False, *([True] if compiled and cell.task in _COMPILED else [])]
    runs: dict[str, Run] = {}
    for is_compiled in forms:
        network = torch.compile(twin, dynamic=False) if is_compiled else twin
        victim = UnitVictim(network, drawn, y)
        side = ("torch" if cell.line is None else "torchattacks") + " compiled" * is_compiled
        runs[side] = functools.partial(_run, cell, victim, u)
    return runs


# What is also measured compiled: it takes a minute or more for each victim and batch.
_COMPILED = ("forward", "gradient", "PGD-20")


def _has_torchattacks() -> bool:
    return importlib.util.find_spec("torchattacks") is not None


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def placed(x: np.ndarray, drawn: Drawn) -> torch.Tensor:
    """Inputs in [0, 1], as torchattacks wants images: [batch, channels, height, width]."""
    low, high = drawn.victim.bounds or (0.0, 1.0)
    unit = torch.from_numpy(np.clip((x - low) / (high - low), 0, 1).astype(np.float32))
    if drawn.kind == "image":
        unit = unit.permute(0, 3, 1, 2)
    else:
        unit = unit.reshape(len(unit), 1, -1, unit.shape[-1])
    return unit.contiguous().to(_device())


class UnitVictim(nn.Module):
    """The twin for torchattacks: images in [0, 1] to logits in float32, until its time is over."""

    def __init__(self, network: Any, drawn: Drawn, y: np.ndarray) -> None:
        super().__init__()
        self._network, self._drawn = [network], drawn  # in a list: it is no child
        self.labels = torch.from_numpy(np.asarray(y)).long().to(_device())
        self.until = math.inf
        # torchattacks asks a parameter where the victim is.
        self._where = nn.Parameter(torch.zeros((), device=_device()), requires_grad=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        if time.monotonic() > self.until:
            raise OutOfTime
        low, high = self._drawn.victim.bounds or (0.0, 1.0)
        x = u if (low, high) == (0.0, 1.0) else low + (high - low) * u
        if self._drawn.kind == "waveform":
            x = x.flatten(start_dim=1)
        elif self._drawn.kind == "spectrogram":
            x = x[:, 0]
        logits = self._network[0](x.to(_dtype(self._drawn)))
        return getattr(logits, "logits", logits).float()


def _dtype(drawn: Drawn) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, drawn.spec.options["dtype"])
    return dtype


def _run(cell: Cell, victim: UnitVictim, u: torch.Tensor, until: float) -> None:
    victim.until = until
    if cell.kind == "forward":
        with torch.no_grad():
            victim(u)
    elif cell.kind == "gradient":
        x = u.clone().requires_grad_()
        loss = nn.functional.cross_entropy(victim(x), victim.labels, reduction="sum")
        torch.autograd.grad(loss, x)
    else:
        assert cell.line is not None
        low, high = victim._drawn.victim.bounds or (0.0, 1.0)
        epsilon = cell.line.epsilon / (high - low)
        attack = _ATTACKS[cell.line.attack](victim, cell.line.made((low, high)), epsilon)
        attack(u, victim.labels)
    if u.is_cuda:
        torch.cuda.synchronize()


def _attacks() -> dict[str, Callable[[nn.Module, Any, float], Any]]:
    """Registry name -> torchattacks' counterpart with the same steps; ε of images in [0, 1]."""

    def of(name: str, make: Callable[[Any, float], dict[str, Any]]) -> Callable[..., Any]:
        def made(victim: nn.Module, attack: Any, epsilon: float) -> Any:
            import torchattacks

            return getattr(torchattacks, name)(victim, **make(attack, epsilon))

        return made

    def steps(attack: Any, epsilon: float) -> dict[str, Any]:
        return {"eps": epsilon, "alpha": epsilon / 4, "steps": attack.steps}

    return {
        "fgsm": of("FGSM", lambda _, epsilon: {"eps": epsilon}),
        "bim": of("BIM", steps),
        "mifgsm": of("MIFGSM", steps),
        "pgd": of("PGD", steps),
        "eotpgd": of("EOTPGD", lambda a, e: {**steps(a, e), "eot_iter": a.samples}),
        "deepfool": of("DeepFool", lambda a, _: {"steps": a.steps}),
        "sparsefool": of("SparseFool", lambda a, _: {"steps": a.steps, "lam": a.lam}),
        "square": of(
            "Square", lambda a, e: {"norm": "Linf", "eps": e, "n_queries": a.queries, "seed": 0}
        ),
    }


_ATTACKS = _attacks()


@functools.lru_cache(maxsize=4)
def twin_of_drawn(drawn: Drawn) -> nn.Module:
    """The victim in PyTorch, on the device, in the dtype that jaxser's computes in."""
    name, variables = drawn.spec.victim, jax.device_get(drawn.victim.variables)
    if drawn.kind == "image":
        from benchmarks.image_sides import twin_with

        twin = twin_with(name, drawn.module, variables)
    elif name in ("emo18", "zhao19"):
        from benchmarks.torch_twins import twin_of

        twin = twin_of(name, variables)
    elif name == "cnn_lstm":
        from benchmarks.torch_twins import twin_of

        twin = twin_of(name, {kind: {"network": tree} for kind, tree in variables.items()})
    else:
        twin = _transformer(drawn, variables)
    twin = twin.to(_device(), _dtype(drawn)).eval().requires_grad_(False)
    for layer in twin.modules():
        # cuDNN differentiates a recurrent layer in training mode only; these have no dropout.
        if isinstance(layer, nn.RNNBase):
            layer.train()
    return twin


def _transformer(drawn: Drawn, variables: Any) -> nn.Module:
    from benchmarks.foundation import import_transformers
    from jaxser.victims.hugging_face.writing import write_pretrained

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        write_pretrained(drawn.module, variables, list(drawn.victim.labels), out)
        kind = "eager" if drawn.module.config.model_type == "wavlm" else "sdpa"
        model: nn.Module = import_transformers().AutoModelForAudioClassification.from_pretrained(
            out, attn_implementation=kind
        )
    return model
