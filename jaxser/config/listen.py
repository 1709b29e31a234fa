"""What ``python -m jaxser.listen`` takes: a recording, a victim, an attack."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from jaxser.config.parser import CommandParser, check_folder, command_name, seed_of
from jaxser.runtime.errors import InputError, UsageError

__all__ = ["ListenConfig", "parse_listen"]


@dataclasses.dataclass(frozen=True)
class ListenConfig:
    """One recording, attacked as weakly as succeeds.

    Attributes:
      file: the recording.
      victim: run folder, or a model of Hugging Face.
      attack: name, or a YAML file of name and parameters.
      params: "NAME=VALUE" each.
      snr: strongest and weakest perturbation that is tried, in dB.
      seconds: length of the speech, of a victim of Hugging Face.
      out: folder of WAV files, picture and page; None: beside the recording.
      seed: of random starts.
    """

    file: Path
    victim: Path
    attack: str
    params: list[str]
    snr: tuple[float, float]
    seconds: float | None
    out: Path | None
    seed: int

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.out or self.file.parent / f"{self.file.stem}-attacked"


def parse_listen(argv: Sequence[str] | None = None) -> ListenConfig:
    """Read the command line.

    Raises:
      UsageError: something is unknown or wrong.
      InputError: there is no such recording, which is told before a victim is loaded.
    """
    values = vars(_parser().parse_args(argv))
    config = ListenConfig(**{**values, "snr": tuple(values["snr"])})
    if not -math.inf < config.snr[0] < config.snr[1] < math.inf:
        raise UsageError("--snr must be the loudest and the quietest in dB, such as 10 60.")
    if config.seconds is not None and not 0 < config.seconds < math.inf:
        raise UsageError(f"--seconds must be a length above 0, not {config.seconds:g}.")
    check_folder(config.folder)
    if not config.file.exists():
        raise InputError(f"{config.file}: there is no such file.")
    return config


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("listen"),
        usage="%(prog)s FILE.wav [--victim RUN] [--flag VALUE ...]",
        description="Say what a victim takes a recording for, find the weakest perturbation that "
        "makes it something else, and write both as WAV files, a picture and a page to hear them.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.wav", help="a recording of speech")
    used = parser.add_argument_group("most used")
    used.add_argument(
        "--victim",
        type=Path,
        default=Path("runs/demo"),
        metavar="RUN",
        help="run folder, or a wav2vec 2.0, HuBERT or WavLM model of Hugging Face, by its folder "
        "or name (runs/demo)",
    )
    used.add_argument("--attack", default="pgd", help="its name, or a YAML file (pgd)")
    used.add_argument(
        "--params", nargs="+", default=[], metavar="NAME=VALUE", help="its hyper-parameters"
    )
    used.add_argument(
        "--snr",
        type=float,
        nargs=2,
        default=[10.0, 60.0],
        metavar=("LOUDEST", "QUIETEST"),
        help="perturbations that are tried, in dB below the speech (10 60); attacks that look for "
        "the smallest one need none",
    )
    used.add_argument("--out", type=Path, help="folder of what is made (FILE-attacked)")
    runs = parser.add_argument_group("how it runs")
    runs.add_argument(
        "--seconds", type=float, help="length of the speech, of victims of Hugging Face (6)"
    )
    runs.add_argument("--seed", type=seed_of, default=0, help="of random starts")
    return parser
