"""What all draws of a synthetic corpus come from."""

import numpy as np

__all__ = ["VERSION", "generator_of"]

# Of the sound: raise it with any change that alters a sample, and the order of draws is such a
# change. It is in every draw's key and in the settings beside a corpus, so that corpora of two
# versions are never taken for one.
VERSION = 1


def generator_of(*key: int) -> np.random.Generator:
    """A generator of its own for every key, so that nothing depends on the order of making."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([VERSION, *key])))
