"""Files whose names are composed in a table and decomposed on disk, or the other way round.

    NamesOnDisk().spelt(Path("mine"), PurePosixPath("Gr\u00fcn.wav"))   # mine/Gru\u0308n.wav

A Mac decomposes the names that it unpacks (u and a diaeresis); most other programs compose them.
"""

import os
from pathlib import Path, PurePosixPath
from unicodedata import normalize

__all__ = ["NamesOnDisk"]


class NamesOnDisk:
    """Looks names up; what a folder holds is listed once."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, str]] = {}

    def spelt(self, folder: Path, file: PurePosixPath) -> Path:
        """``folder / file`` as the disk spells it; as it is where there is no such file."""
        path = folder / file
        if str(file).isascii():
            return path
        found = folder
        for part in file.parts:
            step = found / part
            if not part.isascii() and not os.path.lexists(step):
                spelling = self._listing(found).get(normalize("NFC", part))
                if spelling is None:
                    return path
                step = found / spelling
            found = step
        return found

    def _listing(self, folder: Path) -> dict[str, str]:
        """Names of a folder by their composed spelling."""
        if folder not in self._listings:
            try:
                names = sorted(path.name for path in folder.iterdir())
            except OSError:
                # Whoever opens the file says what is wrong.
                names = []
            self._listings[folder] = {normalize("NFC", name): name for name in names}
        return self._listings[folder]
