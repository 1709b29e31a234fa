"""The one private name of JAX that is used, which no release of JAX has promised to keep."""

import re
from pathlib import Path

from jaxser.runtime import sharding

PACKAGE = Path(sharding.__file__).parents[1]


def test_jax_still_says_who_takes_part() -> None:
    """Where this fails, ``_distributed_state`` is what has to follow JAX."""
    state = sharding._distributed_state()
    assert state.client is None
    assert (state.process_id, state.num_processes) in {(0, 1), (0, None)}


def test_nothing_else_is_private_to_jax() -> None:
    private = re.compile(r"\bjax\._src|\bfrom jax import _|\bjax\.interpreters")
    uses = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if private.search(line)
    ]
    assert uses == ["runtime/sharding.py: from jax._src.distributed import global_state"]
