"""Where figures come from: machine and versions of each file, and the command that measures it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["command", "origin"]

Report = Mapping[str, Any]


def origin(benchmark: str, reports: Mapping[str, Report], flags: str = "") -> str:
    """A block of the commands of some files, each below what it was run on.

    Args:
      benchmark: name of the module.
      reports: file name -> content.
      flags: that the files do not tell.
    """
    lines = []
    for name, report in reports.items():
        environment = report["environment"]
        facts = [environment["device"]]
        if "threads" in environment:
            facts.append(
                f"{environment['threads']} threads" if environment["threads"] > 1 else "1 thread"
            )
        facts.append(f"JAX {environment['packages']['jax']}")
        if "torch" in environment:
            facts.append(f"PyTorch {environment['torch']}")
        if environment["git_revision"]:
            facts.append(f"revision {environment['git_revision'][:7]}")
        busy = report.get("busy_cores_before", 0.0)
        if busy > 0.2:
            facts.append(f"other programs keep {busy:.1f} cores busy")
        lines += [f"# {name}: {', '.join(facts)}", command(benchmark, report, flags)]
    return "\n".join(["```", *lines, "```"])


def command(benchmark: str, report: Report, flags: str = "") -> str:
    """The command that measures what a file holds, as far as the file tells its flags."""
    told = " ".join(f"--{name} {value}".rstrip() for name, value in _TELLERS[benchmark](report))
    threads = report["environment"].get("threads")
    if threads and benchmark not in ("bookkeeping", "scaling"):  # which take what there is
        told += f" --threads {threads}"
    return f"python -m benchmarks.{benchmark} {told} {flags}".rstrip()


# Flag -> value, without the leading dashes; "" for a flag without one.
Flags = Iterable[tuple[str, Any]]


def _each(values: Iterable[Any]) -> str:
    """Different values in the order of their coming, numbers without needless zeros."""
    return " ".join(
        dict.fromkeys(f"{each:g}" if isinstance(each, float) else str(each) for each in values)
    )


def _attacks(report: Report) -> Flags:
    comparisons = report["comparisons"]
    yield "peer", comparisons[0]["peer"]
    yield "attacks", _each(each["attack"] for each in comparisons)
    yield "victim", report["victim"]
    yield "seconds", _each(each["seconds"] for each in comparisons)
    epsilons = [each["work"].get("epsilons", ()) for each in comparisons]
    if len(epsilons) == 1 and len(epsilons[0]) == 1:
        yield "epsilon", _each(epsilons[0])
    yield "rows", max(each["rows"] for each in comparisons)
    yield "pairs", report["pairs"]


def _systematic(report: Report) -> Flags:
    yield "victim", f"runs/{report['victim']}"
    yield "rows", max(cell["rows"] for cell in report["cells"])
    yield "seed", report["seed"]


def _training(report: Report) -> Flags:
    comparisons = report["comparisons"]
    yield "models", _each(each["model"] for each in comparisons)
    yield "settings", _each(f"{each['batch']}x{each['seconds']:g}" for each in comparisons)
    yield "tasks", _each(each["task"] for each in comparisons)
    yield "pairs", report["pairs"]
    yield "steps", report["steps_per_turn"]


def _foundation(report: Report) -> Flags:
    measured = report["measured"]
    sides = [each["side"].removeprefix("torch ") for each in measured]
    yield "models", _each(each["model"] for each in measured)
    yield "seconds", _each(each["seconds"] for each in measured)
    yield "attentions", _each(side for side in sides if side not in ("jaxser", "compiled"))
    if "compiled" in sides:
        yield "compile", ""
    yield "pairs", report["pairs"]


def _generator(report: Report) -> Flags:
    measured = report["measured"]
    yield "seconds", _each([report["seconds"]])
    yield "device", report["environment"]["backend"]
    yield "dtype", report["dtype"]
    yield "tasks", _each(each["task"] for each in measured)
    threats = [each["side"].split(" on ")[1] for each in measured if " on " in each["side"]]
    if threats:
        yield "threats", _each(threats)
    if any(each["side"] == "torch compiled" for each in measured):
        yield "compile", ""
    yield "pairs", len(measured[0]["rows_per_s"])


def _images(report: Report) -> Flags:
    measured = report["measured"]
    yield "victims", _each(each["model"] for each in measured)
    yield "tasks", _each(each["task"].split(",")[0] for each in measured)
    yield "sizes", _each(each["batch"] for each in measured)
    yield "device", report["environment"]["backend"]
    yield "dtype", report["dtype"]
    for flag, word in (("compile", "compiled"), ("channels_last", "channels last")):
        if any(word in each["side"] for each in measured):
            yield flag, ""
    yield "clock", report["clock"]
    yield "pairs", report["pairs"]


def _adversarial(report: Report) -> Flags:
    measured = report["measured"]
    yield "victims", _each(each["model"] for each in measured)
    yield "tasks", _each(each["task"].split(", ")[1] for each in measured)
    yield "batch", measured[0]["batch"]
    yield "clock", report["clock"]
    yield "pairs", report["pairs"]


def _compiled(report: Report) -> Flags:
    yield "device", " ".join(report["devices"])
    yield "programs", _each(each["program"] for each in report["programs"])


def _accelerator(report: Report) -> Flags:
    for name, value in report["arguments"].items():
        yield name, _each(value) if isinstance(value, list) else _each([value])


def _features(report: Report) -> Flags:
    yield "kind", _each(each["kind"] for each in report["measured"])
    yield "batch", report["batch"]
    yield "seconds", _each([report["seconds"]])
    yield "turns", len(report["measured"][0]["utterances_per_s"])


def _smoothing(report: Report) -> Flags:
    measured = report["measured"]
    yield "models", _each(each["model"] for each in measured)
    yield "tasks", _each(each["task"] for each in measured)
    yield "sizes", _each(each["batch"] for each in measured)
    yield "seconds", _each([measured[0]["seconds"]])
    yield "passes", report["passes"]
    yield "clock", report["clock"]
    yield "pairs", report["pairs"]


def _refilling(report: Report) -> Flags:
    measured = report["measured"]
    yield "attacks", _each(each["attack"] for each in measured)
    yield "victim", report["victim"]
    yield "seconds", _each([report["seconds"]])
    yield "rows", max(each["rows"] for each in measured)
    yield "batch_sizes", _each(each["batch_size"] for each in measured)


def _rows(report: Report) -> Flags:
    yield "rows", report["measured"]["rows"]


def _bookkeeping(report: Report) -> Flags:
    yield "attacks", _each(each["attack"] for each in report["costs"])
    yield "turns", len(report["shares"])


def _scaling(report: Report) -> Flags:
    grid, cases = report["grid"], report["cases"]
    yield "victim", _each(grid["victims"])
    yield "attacks", _each(grid["attacks"])
    yield "epsilons", grid["epsilon"]["logspace"][2]
    yield "limit", grid["limit"]
    yield "processes", _each(each["processes"] for each in cases)
    sizes = [each["batch_size"] for each in cases if each["batch_size"] is not None]
    if sizes:
        yield "batch_sizes", _each(sizes)
    yield "turns", len(cases[0]["turns"])


_TELLERS: dict[str, Callable[[Report], Flags]] = {
    "attacks": _attacks,
    "systematic": _systematic,
    "train_throughput": _training,
    "foundation": _foundation,
    "generator": _generator,
    "images": _images,
    "adversarial": _adversarial,
    "compiled": _compiled,
    "accelerator": _accelerator,
    "features": _features,
    "smoothing": _smoothing,
    "refilling": _refilling,
    "rows": _rows,
    "bookkeeping": _bookkeeping,
    "scaling": _scaling,
}
