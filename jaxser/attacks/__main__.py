"""The attacks from the command line.

    python -m jaxser.attacks list
    python -m jaxser.attacks show pgd

``show`` tells of one attack which parameters it has, what they mean and what they are unless said
otherwise, which norm ε bounds, and where it was published.
"""

import sys
from collections.abc import Sequence

from jaxser.config.parser import CommandParser, command_name
from jaxser.runtime.errors import report_errors
from jaxser.runtime.terminal import terminal_width

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return report_errors(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # Attacks need JAX, which --help need not wait for.
    from jaxser.attacks.descriptions import attacks_table, description

    width = terminal_width()
    listed = options.command == "list"
    print(attacks_table(width) if listed else description(options.name, width))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=command_name("attacks"), description="List and explain the attacks."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="all attacks, with the norm of their ε and their paper")
    command = commands.add_parser("show", help="all about one: its parameters, norms and paper")
    command.add_argument("name", metavar="NAME", help="an attack, such as pgd")
    return parser


if __name__ == "__main__":
    sys.exit(main())
