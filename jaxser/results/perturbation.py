"""Size of a perturbation: norms, sparsity and signal-to-noise ratios, per row, on the device.

    measures = perturbation_measures(x, x_adv)       # {"linf": [batch], "snr_peak": [batch], ...}

Peak SNR is ``20 log10(max|x| / max|δ|)``, the definition of STAA-Net (arXiv 2402.01227); power
SNR is ``10 log10(sum x² / sum δ²)``. Both are in dB and NaN where the signal or the perturbation
is zero: they are not defined there.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["MEASURES", "perturbation_measures"]

MEASURES = ("l0", "l1", "l2", "linf", "mean_abs", "sparsity", "snr_peak", "snr_power")


def perturbation_measures(
    x: Float[Array, "batch ..."], x_adv: Float[Array, "batch ..."]
) -> dict[str, Float[Array, " batch"]]:
    """The MEASURES of ``x_adv - x``.

    ``l0`` counts changed samples, ``sparsity`` is their share, ``mean_abs`` is ``l1`` over the
    number of samples; norms are in the input's units.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.results.perturbation import perturbation_measures
      >>> x = jnp.array([[0.5, 0.0, -0.5, 0.0]])
      >>> measures = perturbation_measures(x, x + jnp.array([[0.05, 0.0, 0.0, 0.0]]))
      >>> print(measures["linf"].round(3), measures["sparsity"], measures["snr_peak"].round(1))
      [0.05] [0.25] [20.]
    """
    x = x.astype(jnp.float32).reshape(x.shape[0], -1)
    delta = x_adv.astype(jnp.float32).reshape(x.shape) - x
    size = x.shape[1]
    peak, linf = jnp.abs(x).max(axis=1), jnp.abs(delta).max(axis=1)
    energy, noise = jnp.square(x).sum(axis=1), jnp.square(delta).sum(axis=1)
    l0 = (delta != 0).sum(axis=1).astype(jnp.float32)
    l1 = jnp.abs(delta).sum(axis=1)
    return {
        "l0": l0,
        "l1": l1,
        "l2": jnp.sqrt(noise),
        "linf": linf,
        "mean_abs": l1 / size,
        "sparsity": l0 / size,
        "snr_peak": 20.0 * _log10_ratio(peak, linf),
        "snr_power": 10.0 * _log10_ratio(energy, noise),
    }


def _log10_ratio(
    above: Float[Array, " batch"], below: Float[Array, " batch"]
) -> Float[Array, " batch"]:
    defined = (above > 0) & (below > 0)
    ratio = jnp.where(defined, above, 1.0) / jnp.where(defined, below, 1.0)
    return jnp.where(defined, jnp.log10(ratio), jnp.nan)
