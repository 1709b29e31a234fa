"""Whether JAX has a device to run on, as one sentence."""

import os

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import one_line

__all__ = ["check_devices"]


def check_devices() -> None:
    """Start JAX's backend, if none is started yet.

    Raises:
      InputError: there is no such device, or it cannot be started.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.values["jax_platforms"] or os.environ.get("JAX_PLATFORMS")
        wanted = f"JAX_PLATFORMS={asked}" if asked else "the default device"
        reason = one_line(str(error) or "there is none")
        raise InputError(
            f"JAX cannot start {wanted} ({reason}); set JAX_PLATFORMS=cpu, or install the jaxlib "
            "and the driver of the device."
        ) from None
