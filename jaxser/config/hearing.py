"""The flags of ``evaluate`` and ``transfer`` for victims that do not say what they hear.

corpus = named_corpus(["emodb=PATH/TO/emodb"], None, 3.0)         # an AttackedCorpusConfig
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxser.config.attack import AttackedCorpusConfig
from jaxser.runtime.errors import UsageError

__all__ = ["add_hearing", "named_corpus"]


def add_hearing(parser: Any) -> None:
    """The flags ``--labels`` and ``--seconds``."""
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="VICTIM=CORPUS",
        help="which label of the victim is which of the corpus, such as ang=anger, where they are "
        "not found by name",
    )
    parser.add_argument(
        "--seconds", type=float, help="length of the speech, of victims of Hugging Face (6)"
    )


def named_corpus(
    given: Sequence[str], root: Path | None, seconds: float | None
) -> AttackedCorpusConfig:
    """Which speech a victim is attacked on: ``NAME=FOLDER``, or its own, which may have moved.

    Args:
      given: values of the flag.
      root: where its own is.
      seconds: of the speech.

    Raises:
      UsageError: several, none of that form, or a root as well.
    """
    if seconds is not None and seconds <= 0:
        raise UsageError(f"--seconds {seconds:g} is no length of speech; give more than 0.")
    if not given:
        return AttackedCorpusConfig(root=root, seconds=seconds)
    name, equals, folder = given[0].partition("=")
    if len(given) > 1 or not equals:
        raise UsageError("--corpus must be one NAME=FOLDER for victims that are given.")
    if root is not None:
        raise UsageError("--corpus says where the speech is; leave --root out.")
    return AttackedCorpusConfig(name=name, root=Path(folder), seconds=seconds)
