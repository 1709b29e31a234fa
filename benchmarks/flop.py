"""Multiplications and additions of a computation, in products and convolutions alone.

    flop_of(jax.jit(function).trace(*shapes).jaxpr)

Counted in what JAX has traced, so it is the same for every compiler; their own counts take a loop
for one of its turns. Here a loop counts as often as it is known to turn, one of unknown length
once, and of branches the dearest. What no result needs is left out, as compilers leave it out.
Zeros between the inputs of a convolution do not count, those around them do.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend import core

__all__ = ["flop_of"]


def flop_of(jaxpr: Any) -> float:
    """Of a (closed) jaxpr, and of all that it calls."""
    return _counted(jaxpr, [True] * len(_open(jaxpr).outvars))[0]


def _open(jaxpr: Any) -> Any:
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _counted(jaxpr: Any, wanted: Sequence[bool]) -> tuple[float, list[bool]]:
    """FLOP for the ``wanted`` results, and which arguments these need."""
    jaxpr = _open(jaxpr)
    needed = _variables(jaxpr.outvars, wanted)
    total = 0.0
    for equation in reversed(jaxpr.eqns):
        results = [var in needed for var in equation.outvars]
        if not any(results) and not equation.effects:
            continue
        flop, arguments = _of_equation(equation, results)
        total += flop
        needed |= _variables(equation.invars, arguments)
    return total, [var in needed for var in jaxpr.invars]


def _variables(found: Sequence[Any], wanted: Sequence[bool]) -> set[Any]:
    """Those that are wanted; a literal is computed nowhere."""
    pairs = zip(found, wanted, strict=True)
    return {var for var, is_wanted in pairs if is_wanted and not isinstance(var, core.Literal)}


def _of_equation(equation: Any, results: Sequence[bool]) -> tuple[float, list[bool]]:
    name, everything = equation.primitive.name, [True] * len(equation.invars)
    if name in _COUNTED:
        return _COUNTED[name](equation), everything
    called = list(_jaxprs(equation.params.values()))
    if len(called) == 1 and name not in ("scan", "while"):
        inner = _open(called[0])
        if (len(inner.invars), len(inner.outvars)) == (len(everything), len(results)):
            return _counted(inner, results)
    flop = [flop_of(each) for each in called]
    if name == "cond":
        return max(flop, default=0.0), everything
    return sum(flop) * (equation.params["length"] if name == "scan" else 1), everything


def _jaxprs(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _jaxprs(value)


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _convolution(equation: Any) -> float:
    kernel, (out,) = equation.invars[1].aval, equation.outvars
    features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    between = math.prod(equation.params["lhs_dilation"])
    return 2.0 * out.aval.size * kernel.size / features / between


_COUNTED: dict[str, Callable[[Any], float]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
}
