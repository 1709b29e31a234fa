"""Where a result comes from: versions, device, code revision."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxser.runtime import version

__all__ = ["device_name", "environment", "fingerprint_of"]

_CPU_FIELDS = ("cpu family", "model")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "soxr")


def environment() -> dict[str, object]:
    """Versions, devices, XLA's flags and git revision, as saved beside every run."""
    devices = jax.devices()
    return {
        "jaxser": version.__version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": _versions(_PACKAGES),
        "backend": jax.default_backend(),
        "devices": len(devices),
        "device": device_name(),
        "platform": platform.platform(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of what is installed; reading speech needs some that a machine for attacks can lack."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def fingerprint_of(variables: Any) -> str:
    """SHA-256 of a network's parameters and statistics, shortened."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def device_name() -> str:
    """The accelerator's name, or the processor's on a CPU.

    Virtual machines hide which processor it is behind a short name ("AMD EPYC"), so its family and
    model are told with it: they say which instructions it has.
    """
    device: str = jax.local_devices()[0].device_kind
    if device != "cpu":
        return device
    cpuinfo = Path("/proc/cpuinfo")
    fields = {}
    if cpuinfo.exists():
        lines = cpuinfo.read_text().partition("\n\n")[0].splitlines()
        parts = [line.partition(":") for line in lines]
        fields = {name.strip(): value.strip() for name, _, value in parts}
    name = fields.get("model name") or platform.processor() or "cpu"
    told = [f"{key.removeprefix('cpu ')} {fields[key]}" for key in _CPU_FIELDS if key in fields]
    return f"{name} ({', '.join(told)})" if told else name


@functools.cache
def _git_revision() -> str | None:
    """Commit of the checkout that the code runs from, with "+" where files were changed."""
    package = str(Path(__file__).parents[1])
    try:
        head = subprocess.run(
            ["git", "-C", package, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            ["git", "-C", package, "status", "--porcelain", "--untracked-files=no", "--", package],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # an installed package has no revision
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
