"""``python -m benchmarks.accelerator``."""

import sys

from benchmarks.accelerator.command import main
from jaxser.runtime.errors import report_errors

sys.exit(report_errors(main))
