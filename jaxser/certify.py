"""Certify a victim: ``python -m jaxser.certify --victim RUN --sigma 0.01 [--flag value ...]``.

    python -m jaxser.certify --victim runs/emo18_emodb --sigma 0.01 --samples 1000 --limit 40
    python -m jaxser.certify --victim runs/emo18_emodb --rows runs/emo18_emodb/attacks

Randomised smoothing: the victim's majority answer under Gaussian noise, and the L2 radius in which
no perturbation changes it. The certificate is one of the smoothed victim in its domain, and holds
for every utterance with a probability of 1 - alpha. docs/certificates.md says what that means.

Source: Cohen, Rosenfeld and Kolter, ICML 2019 (PREDICT and CERTIFY).
"""

import sys
from collections.abc import Sequence

from jaxser.config import parse_command
from jaxser.config.certify import CERTIFY_FLAGS, CertifyConfig
from jaxser.config.parser import command_name
from jaxser.runtime.errors import report_errors, stopped_status
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, certify, print; returns the exit status."""
    config = parse_command(
        CertifyConfig,
        command_name("certify"),
        "Certify the L2 radius in which a victim's answer under Gaussian noise provably stays.",
        argv,
        CERTIFY_FLAGS,
    )
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.certify import certify_missing, prepare, told
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    run = None
    try:
        run = prepare(config)
        spent = certify_missing(run)
    except KeyboardInterrupt as error:
        kept = f"{len(run.stored())} certificates are kept in {run.out}" if run else "none is made"
        print(f"interrupted: {kept}; the same command goes on from there.", file=sys.stderr)
        return stopped_status(error)
    print(wrapped(f"{told(run, spent)}\n{took()}", terminal_width()))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
