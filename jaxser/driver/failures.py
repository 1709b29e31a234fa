"""What a victim's function raised where JAX traced it, as one sentence.

try:
    logits = function(x)
except Exception as error:
    raise failed_on(x, error) from error
"""

import jax
from jaxtyping import Array, Float

from jaxser.runtime.errors import InputError

__all__ = ["failed_on"]


def failed_on(x: Float[Array, "batch ..."], error: Exception) -> InputError:
    """The error of a victim's function that fails.

    Args:
      x: its inputs, traced or not.
      error: what it raised.
    """
    said = next(iter(str(error).strip().splitlines()), "")[:300].rstrip(". ")
    shape = f"{x.dtype}{list(x.shape)}"
    if _left_jax(error):
        return InputError(
            f"the victim's function hands its inputs {shape} to NumPy or torch, which JAX can "
            f"neither compile nor differentiate ({type(error).__name__}: {said}); write it with "
            "jax.numpy, or wrap a torch module with jaxser.victims.from_torch."
        )
    return InputError(
        f"the victim's function fails on inputs {shape} ({type(error).__name__}: {said}); it must "
        "be a function of JAX arrays that returns logits [batch, classes]."
    )


def _left_jax(error: Exception) -> bool:
    """Whether another library was given a traced array."""
    if isinstance(error, jax.errors.JAXTypeError):
        return isinstance(error, jax.errors.TracerArrayConversionError)
    # NumPy and torch name the type that they did not expect; JAX takes tracers for what they are.
    return isinstance(error, TypeError | AttributeError | RuntimeError) and "Tracer" in str(error)
