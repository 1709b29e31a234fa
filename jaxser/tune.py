"""Search hyper-parameters: ``python -m jaxser.tune [CONFIG.yaml] [--any.field value]``.

It takes a config of python -m jaxser.train, tries other values of its batch size, learning rate,
dropouts or LSTM units (--search.fields), and stops trials that fall behind. The search is Optuna's:
its sampler proposes, its Hyperband pruner stops. Stopped by anything, it goes on when the same
command is given again.
"""

import sys
from collections.abc import Sequence

from jaxser.config import parse_command
from jaxser.config.parser import command_name
from jaxser.config.train import check_no_generator
from jaxser.config.tune import TUNE_FLAGS, TuneConfig
from jaxser.runtime.errors import UsageError, report_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, search, print; returns the exit status."""
    config = parse_command(
        TuneConfig,
        command_name("tune"),
        "Search the batch size, learning rate, dropouts or LSTM units of a training config, by "
        "validation loss; needs the extra 'tune'.",
        argv,
        TUNE_FLAGS,
    )
    if config.threat:
        raise UsageError("what is searched is a victim's; leave out --threat and generator.*.")
    check_no_generator(config)
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError(
            "python -m jaxser.tune needs Optuna; install it with pip install 'jaxser[tune]'."
        ) from None
    from jaxser.experiments.tune import format_study, search
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(format_study(search(config), config))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
