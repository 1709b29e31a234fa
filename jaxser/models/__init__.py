"""The architectures, by name.

    model = jaxser.models.build("emo18", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)              # x [batch, time] -> [batch, 7]

Every module is called as ``module(x [batch, time] float32, train: bool)`` and returns float32
logits; its file is imported when it is first built.
"""

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from jaxser.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from flax import linen as nn

__all__ = ["build", "names"]

# name -> (module of this package, class)
_ARCHITECTURES = {
    "emo18": ("emo18", "Emo18"),
    "zhao19": ("zhao19", "Zhao19"),
}


def names() -> tuple[str, ...]:
    """Names that :func:`build` knows."""
    return tuple(sorted(_ARCHITECTURES))


def build(name: str, num_classes: int, **config: Any) -> "nn.Module":
    """The Linen module of architecture ``name``.

    Args:
      name: one of :func:`names`.
      num_classes: length of a row of logits.
      **config: the module's other fields; ``dtype`` (also as a string, "bfloat16") is the type
        it computes in.

    Raises:
      UsageError: unknown name or field.
    """
    if name not in _ARCHITECTURES:
        raise UsageError(f"there is no model {name!r}; {nearest_name(name, names())}")
    module, cls = _ARCHITECTURES[name]
    architecture = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    fields = {field.name for field in dataclasses.fields(architecture)}
    fields -= {"parent", "name", "num_classes"}
    for field in config:
        if field not in fields:
            raise UsageError(
                f"model {name!r} has no setting {field!r}; {nearest_name(field, fields)}"
            )
    return architecture(num_classes=num_classes, **config)
