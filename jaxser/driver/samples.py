"""Samples as floats: integers of speech by their type's full scale, as decoders of files give them.

scaled(np.array([[16384, -32768]], np.int16), (-1.0, 1.0))             # [[0.5, -1.0]]
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxser.attacks.projections import Bounds
from jaxser.runtime.errors import InputError

__all__ = ["check_samples", "scaled"]

# What silence and full scale are in the integer types that speech comes in: those of WAV and AIFF.
_SCALES = {
    np.dtype(np.uint8): (128, 128.0),
    np.dtype(np.int8): (0, 128.0),
    np.dtype(np.int16): (0, 2.0**15),
    np.dtype(np.int32): (0, 2.0**31),
}

_SPEECH_BOUNDS = (-1.0, 1.0)


def check_samples(dtype: np.dtype, input_shape: tuple[int, ...], bounds: Bounds) -> None:
    """Refuse types that are no numbers, and integers of which nobody says what they stand for.

    Args:
      dtype: of the inputs.
      input_shape: of one input.
      bounds: valid range of an input, or None.

    Raises:
      InputError: see the message.
    """
    if jnp.issubdtype(dtype, jnp.floating):
        return
    if not np.issubdtype(dtype, np.integer):
        raise InputError(f"inputs must be floats or integer samples of speech, not {dtype}.")
    if bounds is None:
        raise InputError(
            f"inputs of type {dtype} say nothing of their unit, and the victim has no bounds that "
            "do; give floats in the victim's own unit."
        )
    if _is_speech(input_shape, bounds) and dtype not in _SCALES:
        known = ", ".join(str(each) for each in _SCALES)
        raise InputError(
            f"speech of type {dtype} has no known full scale; give one of {known}, or floats from "
            "-1 to 1."
        )


def scaled(x: np.ndarray, bounds: Bounds) -> Float[np.ndarray, "batch ..."]:
    """Inputs ``[batch, ...]`` as float32.

    Integers are divided by their type's full scale where they are speech: one axis beside the
    batch's, and bounds of (-1, 1). Other integers are the numbers that they are.

    Raises:
      InputError: see :func:`check_samples`.
    """
    check_samples(x.dtype, x.shape[1:], bounds)
    if _is_speech(x.shape[1:], bounds) and x.dtype in _SCALES:
        silence, full = _SCALES[x.dtype]
        return ((x.astype(np.float64) - silence) / full).astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is refused where inputs are checked
        return np.asarray(x, np.float32)


def _is_speech(input_shape: tuple[int, ...], bounds: Bounds) -> bool:
    return len(input_shape) == 1 and bounds is not None and tuple(bounds) == _SPEECH_BOUNDS
