"""Keys of STAA-Net's generator as its authors published it."""

import numpy as np

from jaxser.victims.key_tables.entries import Entry, kept, norm, transposed

__all__ = ["wave_unet_table"]


def wave_unet_table(levels: int = 6) -> tuple[Entry, ...]:
    """Key table of STAA-Net's generator with ``levels`` widths, as its authors published it.

    There, blocks of the decoders count from the bottleneck, ``upsampling_blocks`` make the
    locations and ``upsampling_blocks2`` the magnitudes.
    """
    base, entries = "waveunets.ALL", []
    for level in range(levels - 1):
        there = f"{base}.downsampling_blocks.{level}"
        entries += [
            *_conv_norm(("params", f"before{level}"), f"{there}.pre_shortcut_convs.0"),
            *_conv_norm(("params", f"after{level}"), f"{there}.post_shortcut_convs.0"),
            *_conv_norm(("params", f"down{level}"), f"{there}.downconv"),
        ]
    for decoder, suffix in (("locations", ""), ("magnitudes", "2")):
        here = ("params", decoder)
        entries += _conv_norm((*here, "bottleneck"), f"{base}.bottlenecks{suffix}.0")
        for level in range(levels - 1):
            there = f"{base}.upsampling_blocks{suffix}.{levels - 2 - level}"
            entries += [
                *_conv_norm((*here, f"up{level}"), f"{there}.upconv", upwards=True),
                *_conv_norm((*here, f"before{level}"), f"{there}.pre_shortcut_convs.0"),
                *_conv_norm((*here, f"after{level}"), f"{there}.post_shortcut_convs.0"),
            ]
        there = f"{base}.output_conv{suffix}"
        entries += [
            Entry((*here, "kernel"), (f"{there}.weight",), _pointwise, lambda a: (a.T[..., None],)),
            kept((*here, "bias"), f"{there}.bias"),
        ]
    return tuple(entries)


def _pointwise(a: np.ndarray) -> np.ndarray:
    """[out, in, 1] to [in, out]."""
    return a.squeeze(2).T


def _conv_norm(target: tuple[str, ...], source: str, upwards: bool = False) -> list[Entry]:
    """A convolution (a transposed one where ``upwards``) and its normalisation."""
    kernel, weight = (*target, "kernel"), f"{source}.filter.weight"
    return [
        # [in, out, size] of a transposed convolution, [out, in, size] of others.
        Entry(kernel, (weight,), lambda a: a.transpose(2, 0, 1), lambda a: (a.transpose(1, 2, 0),))
        if upwards
        else transposed(kernel, weight),
        kept((*target, "bias"), f"{source}.filter.bias"),
        *norm(target, f"{source}.norm", prefix="norm_"),
    ]
