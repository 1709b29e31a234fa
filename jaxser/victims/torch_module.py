"""A PyTorch module as a victim: logits and gradients come from torch, called back on the host.

victim = jaxser.victims.from_torch(module, input_shape=(32_000,), labels=("anger", "joy"))
result = jaxser.run_attack(victim, x, y, jaxser.attacks.PGD(), 0.005)

It is slow: for every pass the inputs leave the compiled program, torch works on them by itself, and
the results come back; on accelerators they cross to the host and again to torch's device. A network
whose weights jaxser reads (:func:`jaxser.load_victim`), or that is written in JAX, is many times as
fast. Every attack runs, those by gradients through torch's autograd.
"""

import hashlib
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

__all__ = ["from_torch"]


def from_torch(
    module: Any,
    input_shape: Sequence[int],
    labels: Sequence[str] | None = None,
    *,
    bounds: tuple[float, float] | None = (-1.0, 1.0),
    sample_rate: int = 16_000,
    name: str | None = None,
) -> Victim:
    """A module of torch as a victim.

    Args:
      module: from ``[batch, *input_shape]``, in the type of its weights, to logits ``[batch,
        classes]``, or to an object with such ``logits``, as transformers has. It is put into
        evaluation mode, and stays on its device. Any normalisation has to be inside, as attacks
        change what it is given.
      input_shape: of one input.
      labels: class names; numbers by default.
      bounds: valid range of an input, or None.
      sample_rate: of waveforms, in Hz.
      name: what tables call it; the module's class by default.

    Raises:
      UsageError: no module of torch, no shape of an input, or no bounds.
      InputError: a module that fails on such inputs, returns no logits or has no gradient, or
        another number of labels than it has classes.

    Examples:
      >>> import torch
      >>> import jaxser
      >>> network = torch.nn.Linear(16_000, 2)
      >>> victim = jaxser.victims.from_torch(network, (16_000,), ("anger", "joy"))
      >>> victim
      Victim(Linear: inputs [16000] -> 2 labels, anger joy)
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"from_torch takes a torch.nn.Module, not {repr(module)[:80]}.")
    shape = _checked_shape(input_shape)
    module.eval()
    host = _Host(module, shape)
    classes = host.classes()
    names = tuple(map(str, labels)) if labels is not None else tuple(map(str, range(classes)))
    if len(names) != classes or len(set(names)) != classes:
        raise InputError(
            f"the module returns {classes} logits but labels are {len(set(names))} names; give one "
            "for each."
        )
    return Victim(
        apply=_called_back(host, classes),
        # Its weights are torch's: what stands here tells victims apart, and costs no memory.
        variables={"digest": _digest(module)},
        labels=names,
        input_shape=shape,
        bounds=bounds,
        sample_rate=sample_rate,
        name=name or type(module).__name__,
        notes=("the victim is a PyTorch module, called back on the host",),
    )


def _checked_shape(asked: Any) -> tuple[int, ...]:
    """As whole numbers from 1 up."""
    try:
        shape = tuple(map(operator.index, asked))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(
            f"input_shape must be the sizes of one input's axes, such as (32_000,), not "
            f"{repr(asked)[:80]}."
        )
    return shape


class _Host:
    """What torch computes, from and to arrays of NumPy; any axes before those of an input."""

    def __init__(self, module: Any, input_shape: tuple[int, ...]) -> None:
        self._module, self._input_shape = module, input_shape
        # The devices of a mesh call from threads of their own.
        self._lock = threading.Lock()

    def logits(self, x: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch classes"]:
        import torch

        lead, rows = self._rows(x)
        with self._lock, torch.no_grad():
            found = _logits_of(self._module(rows)).float().cpu().numpy()
        return found if len(lead) == 1 else found.reshape(*lead, found.shape[-1])

    def gradient(
        self, x: Float[np.ndarray, "*batch"], weights: Float[np.ndarray, "*batch classes"]
    ) -> Float[np.ndarray, "*batch"]:
        """Of the sum of the logits, each times its weight, by the inputs."""
        import torch

        _, rows = self._rows(x)
        rows.requires_grad_()
        with self._lock, torch.enable_grad():
            logits = _logits_of(self._module(rows))
            along = torch.tensor(np.array(weights)).to(logits).reshape(logits.shape)
            (found,) = torch.autograd.grad(logits, rows, along)
        return np.asarray(found.float().cpu().numpy()).reshape(np.shape(x))

    def classes(self) -> int:
        """How many, by passes over zeros in both directions.

        Raises:
          InputError: see :func:`from_torch`.
        """
        x = np.zeros((2, *self._input_shape), np.float32)
        try:
            logits = self.logits(x)
            if logits.ndim == 2 and len(logits) == 2 and logits.shape[1] > 1:
                self.gradient(x, logits)
        except Exception as error:  # whatever a module raises
            said = next(iter(str(error).strip().splitlines()), "")[:300].rstrip(". ")
            raise InputError(
                f"the torch module fails on inputs float32{list(x.shape)} ({type(error).__name__}: "
                f"{said}); check input_shape, and that it returns logits with a gradient."
            ) from error
        if logits.ndim != 2 or len(logits) != 2 or logits.shape[1] < 2:
            raise InputError(
                f"the torch module must map {list(x.shape)} to logits [2, classes] with at least "
                f"two classes, but returns {list(logits.shape)}."
            )
        return int(logits.shape[1])

    def _rows(self, x: Any) -> tuple[tuple[int, ...], Any]:
        """Axes before those of an input, and the inputs as one batch on the module's device and
        in its type: weights may be of double or half precision."""
        import torch

        x = np.array(x, np.float32)
        lead = x.shape[: x.ndim - len(self._input_shape)]
        rows = torch.tensor(x.reshape(-1, *self._input_shape))
        weights = (each for each in self._module.parameters() if each.is_floating_point())
        parameter = next(weights, None)
        return lead, rows if parameter is None else rows.to(parameter.device, parameter.dtype)


def _called_back(
    host: _Host, classes: int
) -> Callable[[Any, Float[Array, "batch ..."]], Float[Array, "batch classes"]]:
    """``(variables, x) -> logits`` within compiled programs, with the gradient of autograd."""

    @jax.custom_vjp
    def logits(x: Float[Array, "batch ..."]) -> Float[Array, "batch classes"]:
        shape = jax.ShapeDtypeStruct((x.shape[0], classes), jnp.float32)
        # Under vmap the rows of all come in one call.
        return jax.pure_callback(host.logits, shape, x, vmap_method="broadcast_all")

    def forward(x: Array) -> tuple[Array, Array]:
        return logits(x), x

    def backward(x: Array, weights: Array) -> tuple[Array]:
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        return (jax.pure_callback(host.gradient, shape, x, weights, vmap_method="broadcast_all"),)

    logits.defvjp(forward, backward)
    return lambda variables, x: logits(x.astype(jnp.float32))


def _logits_of(output: Any) -> Any:
    """The tensor itself, or the logits of an output of transformers."""
    found = getattr(output, "logits", output)
    if not hasattr(found, "float"):
        raise TypeError(f"it returns a {type(found).__name__} and no tensor of logits")
    return found


def _digest(module: Any) -> np.ndarray:
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        if hasattr(value, "detach"):
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return np.frombuffer(digest.digest(), np.uint32).copy()
