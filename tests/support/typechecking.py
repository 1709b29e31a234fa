"""How annotations are checked while tests run.

    pytest --jaxtyping-packages jaxser,typechecking.checked

As in PEP 484, an int will do where a float is asked for; and a NumPy array will do where an array
is asked for, as JAX takes it for one.
"""

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

# Read by the package's own ``from jaxtyping import Array``, which come later.
jaxtyping.Array = jax.Array | np.ndarray

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
