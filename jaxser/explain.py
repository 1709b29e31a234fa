r"""Show what victims make of speech: ``python -m jaxser.explain --victim RUN [--flag value ...]``.

    python -m jaxser.explain --victim runs/alexnet_emodb --domain image --attack pgd --epsilon 0.03
    python -m jaxser.explain --victim runs/alexnet_emodb runs/levit_256_emodb \
        --domain image --show agreement --out compared
    python -m jaxser.explain --victim runs/cnn_lstm_emodb --show preparation architecture classes

Clean and attacked side by side: what the last linear layer reads, placed in a plane by t-SNE; which
parts of an utterance a logit depends on, by the gradient, Grad-CAM++ and integrated gradients;
confusion; and, over all utterances, how much of those parts is the same before and after.
docs/explanations.md says what each shows and what it does not.

The last example draws what a victim of spectrograms is given and is made of, without an attack.

Source: Echim et al., figures 3 to 5; Facchinetti et al., figures 2 and 3; of the methods see
:mod:`jaxser.victims.attributions`, and van der Maaten & Hinton, JMLR 2008, for t-SNE, which needs
scikit-learn (pip install 'jaxser[explain]').
"""

import sys
from collections.abc import Sequence

from jaxser.config import parse_command
from jaxser.config.explain import EXPLAIN_FLAGS, ExplainConfig, check_utterance
from jaxser.config.parser import command_name
from jaxser.runtime.errors import report_errors
from jaxser.runtime.stages import start, took
from jaxser.runtime.terminal import terminal_width, wrapped

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, look, print; returns the exit status."""
    config = parse_command(
        ExplainConfig,
        command_name("explain"),
        "Show what victims make of clean and attacked speech, and whether they look at the same.",
        argv,
        EXPLAIN_FLAGS,
    )
    check_utterance(config)
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    start("loading JAX")
    from jaxser.experiments.explain import explain
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(wrapped(f"{explain(config)}\n{took()}", terminal_width()))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
