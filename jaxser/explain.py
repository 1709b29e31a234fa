"""Show what a victim makes of speech: ``python -m jaxser.explain --victim RUN [--flag value ...]``.

    python -m jaxser.explain --victim runs/alexnet_emodb --domain image --attack pgd --epsilon 0.03

What the last linear layer reads of clean and of attacked inputs, all placed in one plane by t-SNE:
``tsne.png`` with a colour for each class, and the points in ``tsne.csv``.

Source: van der Maaten & Hinton, JMLR 2008; Echim et al., figure 3. It needs scikit-learn
(pip install 'jaxser[explain]').
"""

import sys
from collections.abc import Sequence

from jaxser.config import parse_command
from jaxser.config.explain import EXPLAIN_FLAGS, ExplainConfig
from jaxser.config.parser import command_name
from jaxser.runtime.errors import report_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, look, print; returns the exit status."""
    config = parse_command(
        ExplainConfig,
        command_name("explain"),
        "Place what a victim's last layer reads of clean and attacked speech in a plane (t-SNE).",
        argv,
        EXPLAIN_FLAGS,
    )
    # JAX and the rest take seconds to import: after --help and after a mistyped flag.
    from jaxser.experiments.explain import explain
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(explain(config))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
