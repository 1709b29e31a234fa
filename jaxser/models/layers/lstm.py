"""An LSTM whose gradients are cheap: gates in PyTorch's order (i, f, g, o), one bias.

    y = LSTM(256)(x)                               # x [batch, steps, channels] -> [.., .., 256]

Products are computed in ``dtype``, the cell in float32 at least.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS, KERNEL, orthogonal_gates
from jaxser.models.layers.precision import at_least_float32

__all__ = ["LSTM", "recurrence"]


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

    # None of the scans here is unrolled: on a CPU that makes gradients slower, and compiling takes
    # longer with every step in the body. On a GPU it would save launches.
    return lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]


def _recurrence_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    (projected, kernel), (dprojected, dkernel) = primals, tangents
    start = _zero_state(projected, kernel)

    def step(carry: tuple[Array, Array], projected: Array) -> Any:
        hidden, cell, gates = _cell_step(*carry, projected, kernel)
        return (hidden, cell), (hidden, cell, gates)

    _, (hidden, cell, gates) = lax.scan(step, start, projected)

    def delayed(states: Array) -> Array:
        return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])

    # Only what is differentiated is computed: attacks move the input, training the kernel too.
    dgates = jnp.zeros_like(projected)
    if not isinstance(dprojected, SymbolicZero):
        dgates = dgates + dprojected
    if not isinstance(dkernel, SymbolicZero):
        dgates = dgates + delayed(hidden) @ dkernel

    # All slopes are found before the loop, in products and activations over all steps at once.
    # Slopes of the new cell by its gates and of the hidden state by the output gate and the cell.
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    tanh_cell = jnp.tanh(cell)
    slopes = jnp.concatenate(
        [
            g * i * (1 - i),
            delayed(cell) * f * (1 - f),
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

    _, dhidden = lax.scan(tangent, start, (dgates, slopes, o * (1 - tanh_cell**2), f))
    return hidden, dhidden


recurrence.defjvp(_recurrence_jvp, symbolic_zeros=True)


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
        return self.read(self.project(x.swapaxes(0, 1))).swapaxes(0, 1)

    # The recurrent kernel is made here, though only ``read`` needs it: Flax allows one compact
    # method, and every order of calls begins with this one.
    @nn.compact
    def project(self, x: Float[Array, "... channels"]) -> Float[Array, "... gates"]:
        """The input's part of the gates."""
        gates = 4 * self.features
        input_kernel = self.param(
            "input_kernel", self.kernel_init, (x.shape[-1], gates), self.param_dtype
        )
        self.param("recurrent_kernel", orthogonal_gates, (self.features, gates), self.param_dtype)
        bias = self.param("bias", self.bias_init, (gates,), self.param_dtype)
        x, input_kernel, bias = (a.astype(self.dtype) for a in (x, input_kernel, bias))
        return x @ input_kernel + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))

    def input_kernel(self) -> Float[Array, "channels gates"]:
        """What :meth:`project` multiplies with."""
        kernel: Array = self.get_variable("params", "input_kernel")
        return kernel.astype(self.dtype)

    def read(
        self, projected: Float[Array, "steps batch gates"]
    ) -> Float[Array, "steps batch features"]:
        """Hidden states of what :meth:`project` made."""
        recurrent_kernel: Array = self.get_variable("params", "recurrent_kernel")
        return recurrence(projected, recurrent_kernel.astype(self.dtype))
