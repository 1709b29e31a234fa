"""A suite of attacks on any model, in one call: from a function of logits to rows and figures.

result = jaxser.benchmark(logits_fn, x, y, suite="quick", labels=("angry", "calm"))
print(result.summary())
result.plot("robustness.png")
result.save("runs/mine")                     # jaxser report runs/mine
"""

import dataclasses
import hashlib
import inspect
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxser.attacks.base import LogitsFn
from jaxser.config import AttackCommandConfig
from jaxser.config.suites import suite_of
from jaxser.corpora import Corpus, Prepared, Utterance
from jaxser.corpora.table import Gender
from jaxser.driver.arguments import as_array, check_inputs, check_victim
from jaxser.driver.run import clean_pass
from jaxser.driver.speech import Speech
from jaxser.driver.work import checked_labels
from jaxser.experiments.benchmark_result import BenchmarkResult
from jaxser.experiments.suite import suite_runs
from jaxser.runtime.errors import InputError
from jaxser.runtime.provenance import fingerprint_of
from jaxser.victims.victim import Victim

__all__ = ["benchmark"]

# In place of a victim's folder in rows.
_FOLDER = Path("jaxser.benchmark")


def benchmark(
    victim: Victim | LogitsFn,
    x: Shaped[np.ndarray, "batch ..."] | Shaped[Array, "batch ..."],
    y: Sequence[int] | Int[np.ndarray, " batch"],
    suite: str = "quick",
    *,
    labels: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    speakers: Sequence[str] | None = None,
    genders: Sequence[str] | None = None,
    bounds: tuple[float, float] = (-1.0, 1.0),
    name: str | None = None,
    corpus: str = "inputs",
    seed: int = 0,
    batch_size: int | None = None,
    shown: bool = True,
) -> BenchmarkResult:
    """Attack a model with a fixed suite, and say how robust it is.

    Args:
      victim: a :class:`jaxser.Victim`, or any function from ``[batch, ...]`` to logits.
      x: clean inputs within the bounds.
      y: what they are, as class indices.
      suite: "quick", "standard" or "full", with a version ("standard-1") or without; see
        :mod:`jaxser.config.suites`. ε are shares of half the width of the bounds.
      labels: class names; the victim's own, or numbers, by default.
      ids: a name per input, which its randomness depends on; numbers by default.
      speakers: of the inputs, for intervals over speakers.
      genders: of the inputs, for tables by gender.
      bounds: valid range of an input, of a function; a victim has its own.
      name: of the model, for tables; by default the victim's or the function's.
      corpus: what tables call the inputs.
      seed: of all randomness.
      batch_size: most rows per batch over all devices; by the device and its memory by default.
      shown: whether there are progress bars.

    Raises:
      InputError: inputs, labels or names that do not fit each other or the victim; see
        :func:`jaxser.run_attack`.
      UsageError: there is no such suite; a victim without bounds.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1], [-0.2, 0.1]])
      >>> result = jaxser.benchmark(lambda x: x, x, [0, 1], "quick", name="mine", shown=False)
      >>> result.suite, result.clean_accuracy.value
      ('quick-1', 1.0)
    """
    found = suite_of(suite)
    check_victim(victim)
    x, y = as_array("x", x), as_array("y", y)
    model = _victim(victim, x, labels, bounds, name)
    count = len(x) if x.ndim else 0
    names = [f"input{i:06d}" for i in range(count)] if ids is None else [str(i) for i in ids]
    _check_names(count, ids=names, speakers=speakers, genders=genders)
    if len(set(names)) < len(names):
        raise InputError("ids must be different; two inputs of one id are one utterance to rows.")
    check_inputs(x, names, model.bounds)
    clean = clean_pass(model, x, seed=seed, ids=names, batch_size=batch_size)
    classes = clean.logits.shape[1]
    model = dataclasses.replace(model, labels=_labels(model, labels, classes))
    y = checked_labels(y, len(x), classes)
    utterances = tuple(
        Utterance(
            id=names[i],
            path=Path(names[i]),
            label=model.labels[y[i]],
            speaker="unknown" if speakers is None else str(speakers[i]),
            gender="unknown" if genders is None else genders[i],  # type: ignore[arg-type]
        )
        for i in range(len(x))
    )
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
    prepared = Prepared(
        corpus=Corpus("inputs", corpus, "unknown", model.labels, Path(), utterances),
        waveforms=x,  # type: ignore[arg-type]
        fingerprint=digest,
        skipped=(),
        folder=Path(),
    )
    speech = Speech(
        victim=model,
        fingerprint=_fingerprint(model, clean.logits),
        scheme=("given", 0, 0),
        prepared=prepared,
        positions=np.arange(len(x)),
        inputs=x,
        places=np.arange(len(x)),
        labels=y,
        clean=clean,
    )
    config = AttackCommandConfig(
        victim=_FOLDER,
        suite=found.name,
        # Whatever is no waveform is made of one, or stands beside it.
        domain="waveform" if x.ndim == 2 else "features",
        seed=seed,
        batch_size=batch_size,
    )
    tables, sources = [], []
    notes: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = dataclasses.replace(config, out=Path(folder))
        for run, _ in suite_runs(out, speech, shown=shown):
            tables.append(run.rows())
            sources.append(run.source())
            notes |= dict.fromkeys(run.oddities())
    return BenchmarkResult(found.name, model.name, tuple(tables), tuple(sources), tuple(notes))


def _victim(
    victim: Victim | LogitsFn,
    x: np.ndarray,
    labels: Sequence[str] | None,
    bounds: tuple[float, float],
    name: str | None,
) -> Victim:
    """The victim, or what makes one of a function; the labels of a function come later."""
    if isinstance(victim, Victim):
        return victim if name is None else dataclasses.replace(victim, name=name)
    # What jax.vmap and jax.jit made of a module has no name of its own, or theirs for that.
    plain = inspect.unwrap(victim)
    own: str = getattr(plain, "__name__", type(plain).__name__)
    return Victim(
        apply=_Function(victim),
        variables={},
        labels=tuple(labels or ()),
        input_shape=tuple(x.shape[1:]),
        bounds=bounds,
        name=name or ("model" if own == "<lambda>" else own),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Function:
    """A function of inputs alone as a victim's, which has variables, too."""

    function: Callable[..., Any]

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."]
    ) -> Float[Array, "batch classes"]:
        del variables
        return self.function(x)


def _labels(victim: Victim, asked: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    names = tuple(map(str, asked)) if asked is not None else victim.labels
    names = names or tuple(map(str, range(classes)))
    if len(names) != classes or len(set(names)) != classes:
        raise InputError(
            f"{victim.name} has {classes} classes but labels are {len(set(names))} names; give one "
            "for each."
        )
    return names


def _check_names(count: int, **columns: Sequence[str] | None) -> None:
    for name, values in columns.items():
        if values is not None and len(values) != count:
            raise InputError(f"there are {count} inputs but {len(values)} {name}; give one each.")
    known = get_args(Gender)
    for gender in columns["genders"] or ():
        if gender not in known:
            raise InputError(f"there is no gender {gender!r}; valid names are {', '.join(known)}.")


def _fingerprint(victim: Victim, logits: np.ndarray) -> str:
    """Of the variables; of a function, which keeps its own to itself, of what it says."""
    if jax.tree.leaves(victim.variables):
        return fingerprint_of(victim.variables)
    return fingerprint_of({"logits": logits})
