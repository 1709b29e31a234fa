"""LSTMs whose gradients are cheap: gates in PyTorch's order (i, f, g, o), one bias.

    y = LSTM(256)(x)                               # x [batch, steps, channels] -> [.., .., 256]
    y = stacked(lower, upper, x)                   # upper(lower(x))
    states = read_together(readers, projected)     # several that do not read each other

Products are computed in ``dtype``, the cell in float32 at least. On an accelerator a step takes as
long as it takes to launch its kernels, whatever they compute. So there is one loop for two layers,
the upper one a step behind the lower, and one for both directions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS, KERNEL, orthogonal_gates
from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.forms import on_cpu

__all__ = ["LSTM", "Weights", "read_together", "recurrence", "stacked"]

# Most and fewest steps in the body of a loop on an accelerator: each saves the launches of the loop
# itself, and makes compiling longer.
_MOST_UNROLLED, _FEWEST_UNROLLED = 10, 5

# The input gate of a layer that has nothing to read yet: its sigmoid is 0, and so are its slopes.
_CLOSED = -1e4


def _cell_step(
    hidden: Array, cell: Array, projected: Array, recurrent_kernel: Array
) -> tuple[Array, Array, Array]:
    """One LSTM step: the new hidden state, the new cell and the gates before activation."""
    gates = (projected + hidden @ recurrent_kernel).astype(cell.dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
    hidden = (nn.sigmoid(o) * jnp.tanh(cell)).astype(hidden.dtype)
    return hidden, cell, gates


def _zero_state(projected: Array, recurrent_kernel: Array) -> tuple[Array, Array]:
    shape = (projected.shape[1], recurrent_kernel.shape[0])
    return jnp.zeros(shape, projected.dtype), jnp.zeros(shape, at_least_float32(projected.dtype))


@jax.custom_jvp
def recurrence(
    projected: Float[Array, "steps batch gates"],
    recurrent_kernel: Float[Array, "hidden gates"],
) -> Float[Array, "steps batch hidden"]:
    """Hidden states of an LSTM, given the input's part of its gates (order i, f, g, o).

    The derivative by the kernel is one matrix product over all steps; by itself JAX would add
    up an outer product of the kernel's size at every step of the backward loop. It is given as a
    ``custom_jvp``, so that forward mode and ``vmap`` over class gradients work as well.
    """

    def step(carry: tuple[Array, Array], projected: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell, _ = _cell_step(*carry, projected, recurrent_kernel)
        return (hidden, cell), hidden

    return _scan(step, _zero_state(projected, recurrent_kernel), projected)[1]


def _scan(step: Any, start: Any, inputs: Any) -> Any:
    """``lax.scan``, not unrolled on a CPU, where that makes gradients slower."""
    steps = jax.tree.leaves(inputs)[0].shape[0]
    return lax.scan(step, start, inputs, unroll=1 if on_cpu() else _unrolled(steps))


def _unrolled(steps: int) -> int:
    """Steps in the body of a loop: if possible a divisor, as what is left over is a loop more."""
    bodies = range(min(_MOST_UNROLLED, steps), min(_FEWEST_UNROLLED, steps) - 1, -1)
    return next((body for body in bodies if steps % body == 0), bodies[0])


def _states(
    projected: Float[Array, "steps batch gates"], kernel: Float[Array, "hidden gates"]
) -> tuple[Array, Array, Array]:
    """Hidden states, cells and gates before activation of all steps."""
    start = _zero_state(projected, kernel)
    if on_cpu():

        def step(carry: tuple[Array, Array], projected: Array) -> Any:
            hidden, cell, gates = _cell_step(*carry, projected, kernel)
            return (hidden, cell), (hidden, cell, gates)

        return _scan(step, start, projected)[1]

    # Every array that a step adds to is a launch: one for the states, and the gates come from one
    # product after the loop.
    def packed(carry: tuple[Array, Array], projected: Array) -> Any:
        hidden, cell, _ = _cell_step(*carry, projected, kernel)
        return (hidden, cell), jnp.concatenate([hidden.astype(cell.dtype), cell], axis=-1)

    hidden, cell = jnp.split(_scan(packed, start, projected)[1], 2, axis=-1)
    hidden = hidden.astype(projected.dtype)
    return hidden, cell, (projected + _delayed(hidden) @ kernel).astype(cell.dtype)


def _delayed(states: Float[Array, "steps batch hidden"]) -> Float[Array, "steps batch hidden"]:
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


def _recurrence_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    (projected, kernel), (dprojected, dkernel) = primals, tangents
    hidden, cell, gates = _states(projected, kernel)

    # Only what is differentiated is computed: attacks move the input, training the kernel too.
    dgates = jnp.zeros_like(projected)
    if not isinstance(dprojected, SymbolicZero):
        dgates = dgates + dprojected
    if not isinstance(dkernel, SymbolicZero):
        dgates = dgates + _delayed(hidden) @ dkernel

    # All slopes are found before the loop, in products and activations over all steps at once.
    # Slopes of the new cell by its gates and of the hidden state by the output gate and the cell.
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    tanh_cell = jnp.tanh(cell)
    slopes = jnp.concatenate(
        [
            g * i * (1 - i),
            _delayed(cell) * f * (1 - f),
            i * (1 - g**2),
            tanh_cell * o * (1 - o),
        ],
        axis=-1,
    )

    # Laid out for the backward loop, where its product is twice as fast this way on a CPU.
    transposed = kernel.T

    def tangent(carry: tuple[Array, Array], terms: Any) -> Any:
        dhidden, dcell = carry
        dgates, slopes, by_cell, forget = terms
        recurrent = jnp.einsum("bh,gh->bg", dhidden, transposed)
        moved = (dgates + recurrent).astype(dcell.dtype) * slopes
        by_i, by_f, by_g, by_o = jnp.split(moved, 4, axis=-1)
        dcell = forget * dcell + by_i + by_f + by_g
        dhidden = (by_o + by_cell * dcell).astype(dhidden.dtype)
        return (dhidden, dcell), dhidden

    start = _zero_state(projected, kernel)
    _, dhidden = _scan(tangent, start, (dgates, slopes, o * (1 - tanh_cell**2), f))
    return hidden, dhidden


recurrence.defjvp(_recurrence_jvp, symbolic_zeros=True)


class Weights(NamedTuple):
    """Those of an LSTM, in the type that it computes in."""

    input_kernel: Float[Array, "channels gates"]
    recurrent_kernel: Float[Array, "hidden gates"]
    bias: Float[Array, " gates"]


class LSTM(nn.Module):
    """A unidirectional LSTM with one bias, from a zero state.

    The input's part of the gates is one matrix product for all steps; only the recurrent part
    is in the loop.
    """

    features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL
    bias_init: Initializer = BIAS

    def __call__(
        self, x: Float[Array, "batch steps channels"]
    ) -> Float[Array, "batch steps features"]:
        (states,) = read_together([self], [self.project(x.swapaxes(0, 1))])
        return states.swapaxes(0, 1)

    @nn.compact
    def weights(self, channels: int) -> Weights:
        """What it multiplies with and adds, for inputs of so many channels."""
        gates = 4 * self.features
        weights = Weights(
            self.param("input_kernel", self.kernel_init, (channels, gates), self.param_dtype),
            self.param(
                "recurrent_kernel", orthogonal_gates, (self.features, gates), self.param_dtype
            ),
            self.param("bias", self.bias_init, (gates,), self.param_dtype),
        )
        return Weights(*(each.astype(self.dtype) for each in weights))

    def project(self, x: Float[Array, "... channels"]) -> Float[Array, "... gates"]:
        """The input's part of the gates."""
        weights = self.weights(x.shape[-1])
        bias = jnp.expand_dims(weights.bias, tuple(range(x.ndim - 1)))
        return x.astype(self.dtype) @ weights.input_kernel + bias

    def input_kernel(self) -> Float[Array, "channels gates"]:
        """What :meth:`project` multiplies with."""
        kernel: Array = self.get_variable("params", "input_kernel")
        return kernel.astype(self.dtype)

    def recurrent_kernel(self) -> Float[Array, "hidden gates"]:
        """What the states are multiplied with in every step."""
        kernel: Array = self.get_variable("params", "recurrent_kernel")
        return kernel.astype(self.dtype)


def read_together(
    readers: Sequence[LSTM], projected: Sequence[Float[Array, "steps batch gates"]]
) -> list[Float[Array, "steps batch hidden"]]:
    """Hidden states of LSTMs of one size, each of what its own :meth:`LSTM.project` made."""
    kernels = [reader.recurrent_kernel() for reader in readers]
    if on_cpu() or len(kernels) == 1:
        return [recurrence(*each) for each in zip(projected, kernels, strict=True)]
    return list(jax.vmap(recurrence)(jnp.stack(projected), jnp.stack(kernels)))


def stacked(
    lower: LSTM, upper: LSTM, x: Float[Array, "batch steps channels"]
) -> Float[Array, "batch steps features"]:
    """``upper(lower(x))``.

    On an accelerator as one recurrence of both states side by side: while the lower layer reads a
    step, the upper one reads what the lower made of the step before.
    """
    if on_cpu():
        return upper(lower(x))
    of_lower = lower.weights(x.shape[-1])
    of_upper = upper.weights(lower.features)
    projected = _side_by_side(lower.project(x.swapaxes(0, 1)), of_upper.bias)
    states = recurrence(projected, _block_kernel(of_lower, of_upper))
    return states[1:, :, lower.features :].swapaxes(0, 1)


def _side_by_side(
    lower: Float[Array, "steps batch gates"], bias: Float[Array, " gates_above"]
) -> Float[Array, "steps_and_one batch all_gates"]:
    """The inputs' part of the gates of two layers, each gate of the one beside that of the other.

    The lower layer has nothing left to read in the last step, the upper one nothing yet in the
    first: it stays at zero by a closed input gate.
    """
    steps, batch, _ = lower.shape
    lower = jnp.pad(lower, ((0, 1), (0, 0), (0, 0))).reshape(steps + 1, batch, 4, -1)
    bias = bias.reshape(1, 4, -1)
    closed = bias.at[:, 0].set(_CLOSED)
    upper = jnp.concatenate([closed, jnp.repeat(bias, steps, axis=0)])
    upper = jnp.broadcast_to(upper[:, None], (steps + 1, batch, *upper.shape[1:]))
    return jnp.concatenate([lower, upper], axis=-1).reshape(steps + 1, batch, -1)


def _block_kernel(lower: Weights, upper: Weights) -> Float[Array, "both_hidden all_gates"]:
    """What both layers' states are multiplied with: the lower one's feed both layers."""

    def by_gate(kernel: Float[Array, "hidden gates"]) -> Float[Array, "hidden 4 units"]:
        return kernel.reshape(kernel.shape[0], 4, -1)

    from_upper = by_gate(upper.recurrent_kernel)
    nothing = jnp.zeros((from_upper.shape[0], 4, lower.recurrent_kernel.shape[0]), from_upper.dtype)
    from_lower = [by_gate(lower.recurrent_kernel), by_gate(upper.input_kernel)]
    rows = [jnp.concatenate(from_lower, axis=-1), jnp.concatenate([nothing, from_upper], axis=-1)]
    kernel = jnp.concatenate(rows)
    return kernel.reshape(kernel.shape[0], -1)
