"""Which stage a command is in, told from its first second on, and what each stage took.

    start("loading JAX")                        # by a command, as soon as it knows what to do
    stage("loading the victim")                 # by what does it; the stage before has ended
    stage("attacking", shown=False)             # what has a bar of its own shows itself
    print(took())                               # "took 24.1 s: loading JAX 3.2, ..."

A terminal sees one line, which the next one overwrites; a file gets a line for each stage. Where no
command has started, as from Python, nothing is told.
"""

import dataclasses
import sys
import threading
import time

from jaxser.runtime.terminal import terminal_width

__all__ = ["clear", "stage", "start", "took"]

# To the beginning of the line, which is wiped.
_WIPE = "\r\x1b[K"


@dataclasses.dataclass
class _Told:
    """Seconds of the stages so far, in the order in which they first began."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    name: str = ""
    since: float = 0.0
    live: bool = False

    def end(self) -> None:
        now = time.monotonic()
        if self.name:
            self.seconds[self.name] = self.seconds.get(self.name, 0.0) + now - self.since
        self.since = now


_told: _Told | None = None


def start(name: str) -> None:
    """Begin to tell: the command is in its first stage, which is called ``name``."""
    global _told
    _told = _Told()
    stage(name)


def stage(name: str, *, shown: bool = True) -> None:
    """The stage before has ended, and ``name`` begins. Other threads than the main one are silent.

    Args:
      name: in the order of words "loading the victim"; one that comes again goes on counting.
      shown: False where something else shows how far it is.
    """
    if _told is None or threading.current_thread() is not threading.main_thread():
        return
    clear()
    again = name in _told.seconds
    _told.end()
    _told.name = name
    if shown and sys.stderr is not None and sys.stderr.isatty():
        # Back to the beginning: a warning that comes now writes over it. What went on in a second
        # line could not be wiped.
        sys.stderr.write(f"{name} ..."[: terminal_width() - 1] + "\r")
        sys.stderr.flush()
        _told.live = True
    elif shown and not again:
        print(f"{name} ...", flush=True)


def clear() -> None:
    """Wipe the line from the terminal, before something else is written there."""
    if _told is not None and _told.live:
        sys.stderr.write(_WIPE)
        sys.stderr.flush()
        _told.live = False


def took() -> str:
    """What each stage took, in seconds of the clock; "" where nothing is told. It is the end."""
    global _told
    if _told is None:
        return ""
    clear()
    _told.end()
    seconds, _told = _told.seconds, None
    each = ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
    return f"took {sum(seconds.values()):.1f} s: {each}"
