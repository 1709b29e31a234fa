"""Hear an attack on one recording: ``python -m jaxser.listen FILE.wav --victim runs/NAME``.

    python -m jaxser.listen speech.wav --victim runs/emo18_emodb
    python -m jaxser.listen speech.wav --victim superb/wav2vec2-base-superb-er --attack deepfool

It says what the victim takes the recording for, looks for the weakest perturbation by which the
attack makes it something else, and writes the speech before and after (WAV files of 32-bit floats,
the very samples), their difference, a picture, and listen.html, a page of one file to hear them.
"""

import sys
from collections.abc import Sequence

from jaxser.config.listen import parse_listen
from jaxser.runtime.errors import report_errors
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, write; returns the exit status."""
    config = parse_listen(argv)
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.listen import listen_to
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(wrapped(f"{listen_to(config)}\n{took()}", terminal_width()))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
