"""The other side of the benchmarks of attacks: a file for each library.

    victim = PeerVictim(twin)                       # counts forward passes
    x_adv = attacks_of("torchattacks")["pgd"](victim, x, y, work, batch_size)

A library is imported when its attacks are asked for, so that the others need not be there, and so
that threads can be set before PyTorch is loaded.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.victim import PeerAttack

__all__ = ["PEERS", "attacks_of"]

PEERS = ("torchattacks", "art", "foolbox", "scipy")


def attacks_of(peer: str) -> dict[str, "PeerAttack"]:
    """The attacks of a library, by the names of their counterparts here."""
    return importlib.import_module(f"benchmarks.peers.{peer}").ATTACKS
