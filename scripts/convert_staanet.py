"""Convert the public weights of STAA-Net's generator to Linen variables, or back.

    python -m scripts.convert_staanet AUTHORS.safetensors LINEN.safetensors
    python -m scripts.convert_staanet LINEN.safetensors AUTHORS.safetensors

The first file says which way: it holds the authors' 192 keys (waveunets.ALL...), or the paths of
``jaxser.models.build("waveunet", ...)``'s variables, joined by dots (params.before0.kernel...).
``jaxser.victims.staa_net_weights.read_generator`` reads the authors' file by itself.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxser.models.wave_unet import WaveUNet
from jaxser.runtime.errors import InputError, report_errors
from jaxser.runtime.files import atomic_file
from jaxser.victims.staa_net_weights import generator_shapes, read_generator, write_generator
from jaxser.victims.weights_file import read_safetensors

__all__ = ["convert", "main", "read_linen", "write_linen"]


def _paths(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(part.key for part in path): leaf for path, leaf in leaves}


def read_linen(path: Path, module: WaveUNet) -> dict[str, Any]:
    """Variables of ``module`` that :func:`write_linen` wrote.

    Raises:
      InputError: missing, left over or mis-shaped arrays; all of them are named.
    """
    shapes = generator_shapes(module)
    found, wanted = read_safetensors(path), _paths(shapes)
    faults = [f"{key} is missing" for key in wanted if key not in found]
    faults += [f"{key} is not part of this model" for key in found if key not in wanted]
    faults += [
        f"{key} is {found[key].shape}, not {leaf.shape}"
        for key, leaf in wanted.items()
        if key in found and found[key].shape != leaf.shape
    ]
    if faults:
        raise InputError(
            f"the weights in {path} do not fit the generator: {'; '.join(faults)}; give a file "
            "that was converted from the same architecture."
        )
    return jax.tree.unflatten(jax.tree.structure(shapes), [found[key] for key in wanted])


def write_linen(path: Path, variables: Any) -> None:
    """Write variables as safetensors, under their paths."""
    import safetensors.numpy

    state = {key: np.ascontiguousarray(leaf) for key, leaf in _paths(variables).items()}
    with atomic_file(path) as temporary:
        safetensors.numpy.save_file(state, temporary)


def convert(source: Path, out: Path, module: WaveUNet) -> str:
    """Convert ``source`` to the other side's file ``out``; returns what that is.

    Raises:
      InputError: ``source`` is missing, damaged, or no generator's.
    """
    if any(key.startswith("params.") for key in read_safetensors(source)):
        write_generator(out, module, read_linen(source, module))
        return "a state dict of the authors' generator"
    write_linen(out, read_generator(source, module))
    return "variables of jaxser's waveunet"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, convert, print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.convert_staanet", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("source", type=Path, help="safetensors of either side")
    parser.add_argument("out", type=Path, help="safetensors to write")
    args = parser.parse_args(argv)
    # Weights do not depend on the length.
    module = WaveUNet(num_samples=96_000)
    print(f"{args.out} holds {convert(args.source, args.out, module)}.")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
