"""Fetch a corpus that may be fetched freely: resumed, verified, unpacked with path checks.

    print(download(jaxser.corpora.get_spec("ravdess"), Path("data/ravdess")))

An interrupted download goes on where it stopped. The archive is compared with the published
digest; where none is published, the SHA-256 of the first download is kept in ``DOWNLOAD.json`` and
later ones must match it (trust on first use). The folder appears under its name only when whole.
"""

import errno
import hashlib
import http.client
import json
import lzma
import os
import re
import secrets
import shutil
import ssl
import stat
import struct
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from jaxser.corpora import locate
from jaxser.corpora.spec import CorpusSpec, Download
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import write_text
from jaxser.runtime.regular_files import UnreadableFileError, read_regular

__all__ = ["RECORD", "download"]

RECORD = "DOWNLOAD.json"

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
# Of bytes of a folder's own name, so that what is added to it still makes a name.
_LONGEST_NAME = 120
_UNUSABLE_NAME = (
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ,
)  # fmt: skip
# What reading a damaged archive raises: zipfile, its decompressors, and the parsing of headers.
_UNSOUND = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError,
    OverflowError, struct.error, MemoryError,
)  # fmt: skip
_INTERRUPTIONS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


def download(
    spec: CorpusSpec, root: Path | str, *, pause: float = 2.0, progress: bool = True
) -> str:
    """Fetch and unpack a corpus into a new or empty folder.

    Args:
      spec: which corpus.
      root: the folder; one that holds the corpus already is left as it is.
      pause: seconds before an interrupted transfer is taken up again.
      progress: show a progress bar if stderr is a terminal.

    Returns:
      A sentence or two on what was done, for the user.

    Raises:
      InputError: the corpus is restricted (the message says where to apply), the folder holds
        something else, the server does not answer, the archive is not the published one, or it
        holds paths that lead out of the folder.
      OSError: the disk is full; what was fetched is kept, and the next run goes on from there.
    """
    if not spec.download:
        raise InputError(spec.obtain)
    root = Path(root).expanduser()
    try:
        root = root.parent.resolve() / root.name
        # Only in a folder that is there can it be told whether the name is possible.
        root.parent.mkdir(parents=True, exist_ok=True)
        held = _record_of(root)
        is_there = root.exists()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(root)!r} cannot be a folder ({reason}); give another.") from error
    if is_there and not root.is_dir():
        raise InputError(f"{root} is a file; give a new or empty folder.")
    if root.is_dir() and any(path.name != RECORD for path in root.iterdir()):
        locate(spec, root)
        return f"{root} holds {spec.title} already; nothing was fetched."
    record = {}
    with _temporary_folder(root) as folder:
        archives = []
        for source in spec.download:
            archive = _beside(root, f"{PurePosixPath(source.url).name}.part")
            _fetch(source.url, archive, pause, progress)
            record[source.url] = _verify(source, archive, held.get(source.url))
            _unpack(archive, folder / source.folder, source.url)
            archives.append(archive)
        locate(spec, folder)
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
        (root / RECORD).unlink(missing_ok=True)
        folder.rename(root)
        for archive in archives:
            archive.unlink()
            _state_file(archive).unlink(missing_ok=True)
    return f"{spec.title} is in {root}. {_trust(spec, held)}"


def _beside(root: Path, suffix: str) -> Path:
    """A hidden name beside the folder; short where the folder's own name would make it too long."""
    name = root.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return root.with_name(f".{name}.{suffix}")


def _trust(spec: CorpusSpec, held: Mapping[str, str]) -> str:
    if all(source.digest for source in spec.download):
        return "The archive has the published checksum."
    if all(source.digest or source.url in held for source in spec.download):
        return f"The archive is the one fetched before, by the SHA-256 in {RECORD}."
    return (
        "No checksum is published for the archive: its SHA-256 was recorded in "
        f"{RECORD} and later downloads into this folder must match it, but this first one was "
        "taken on trust; check it with 'python -m jaxser.corpora check'."
    )


def _record_of(root: Path) -> dict[str, str]:
    """SHA-256 of what was fetched before, by address; an entry without one is none."""
    path = root / RECORD
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        record = json.loads(read_regular(path))
    except UnreadableFileError as error:
        raise InputError(f"{path} cannot be read: {error.reason}; remove it.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; remove it to fetch without it.") from error
    if not isinstance(record, dict) or not all(isinstance(x, dict) for x in record.values()):
        raise InputError(f"{path} is not a record of downloads; remove it.")
    digests = {url: entry["sha256"] for url, entry in record.items() if entry.get("sha256")}
    for url, digest in digests.items():
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise InputError(
                f"{path} gives {url!r:.80} a sha256 that is none; correct it, or remove the file "
                "to fetch without it."
            )
    return digests


@contextmanager
def _temporary_folder(root: Path) -> Iterator[Path]:
    folder = _beside(root, f"unpacking-{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _fetch(url: str, part: Path, pause: float, progress: bool) -> None:
    """Complete ``part``; an interrupted transfer is taken up again as long as it gets on."""
    while True:
        before = _size(part)
        try:
            _transfer(url, part, progress)
            return
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{url} cannot be fetched: the server says {error.code} {error.reason}."
            ) from error
        except _INTERRUPTIONS as error:
            if _size(part) <= before:
                raise InputError(
                    f"the download of {url} stopped after {_size(part):,} bytes "
                    f"({getattr(error, 'reason', None) or error}); run the same command again, it "
                    "goes on from there."
                ) from error
        time.sleep(pause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, progress: bool) -> None:
    state = _state_file(part)
    known, version = _version_of(state)
    start = _size(part) if known else 0
    headers = {"User-Agent": "jaxser", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version:
            # A file that changed meanwhile is sent whole.
            headers["If-Range"] = version
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{start}":
            return
        # Longer than the file, or of another version: start over.
        part.unlink()
        _transfer(url, part, progress)
        return
    with response:
        content_range = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and content_range.startswith(f"bytes {start}-")
        if response.status == 206 and not resumed:
            raise InputError(f"{url} answered with bytes that were not asked for; try again later.")
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        tag = response.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else None
        write_text(state, json.dumps({"version": strong or response.headers.get("Last-Modified")}))
        _receive(response, part, start, total, progress)
    if total is not None and _size(part) < total:
        raise ConnectionError(f"of {total:,} bytes")


def _version_of(state: Path) -> tuple[bool, str | None]:
    """Whether it is known what a part is of, and the version that the server gave it.

    Without it, or where it is damaged, the transfer starts over.
    """
    try:
        stored = json.loads(read_regular(state))
    except (UnreadableFileError, ValueError, RecursionError):
        return False, None
    version = stored.get("version", "") if isinstance(stored, dict) else ""
    if version is None:
        return True, None
    # It goes into a header of the request.
    is_whole = isinstance(version, str) and 0 < len(version) < 1000
    return (
        (True, version)
        if is_whole and version.isprintable() and version.isascii()
        else (False, None)
    )


def _receive(response: Any, part: Path, start: int, total: int | None, progress: bool) -> None:
    from tqdm import tqdm

    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(
            desc=part.name.strip(".").removesuffix(".part"),
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not (progress and sys.stderr.isatty()),
        ) as bar,
    ):
        file.seek(start)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _verify(source: Download, archive: Path, held: str | None) -> dict[str, Any]:
    """What goes into the record; the archive is removed if it is not the expected one."""
    expected = [source.digest] if source.digest else []
    if held is not None:
        expected.append(f"sha256:{held}")
    for digest in expected:
        algorithm, _, wanted = digest.partition(":")
        got = _digest(archive, algorithm)
        if got != wanted.lower():
            archive.unlink()
            origin = "published" if digest == source.digest else f"in {RECORD}"
            raise InputError(
                f"{source.url} is not the archive it should be: its {algorithm} is {got}, the one "
                f"{origin} is {wanted}; it was removed, try again or find out what changed."
            )
    return {"sha256": _digest(archive, "sha256"), "bytes": archive.stat().st_size}


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _unpack(archive: Path, folder: Path, url: str) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            for member in members:
                _check_member(member, url)
            needed = sum(member.file_size for member in members)
            free = shutil.disk_usage(folder.parent).free
            if needed > free:
                raise InputError(
                    f"unpacking {url} takes {needed:,} bytes, but {folder.parent.parent} has "
                    f"{free:,} left; free some space and run the same command again."
                )
            for member in members:
                target = folder / member.filename
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as out:
                    shutil.copyfileobj(source, out)
    except InputError:
        raise
    except FileExistsError as error:
        raise InputError(f"{url} holds {error.filename} twice; it was not unpacked.") from error
    except OSError as error:
        if error.errno in _UNUSABLE_NAME:
            raise InputError(
                f"{url} holds a name that cannot be a file here ({error.strerror}: "
                f"{str(error.filename)[-80:]!r}); it was not unpacked."
            ) from error
        if error.errno is not None:
            raise
        # bz2 has no error of its own.
        raise _unsound(archive, url, error) from error
    except _UNSOUND as error:
        raise _unsound(archive, url, error) from error


def _unsound(archive: Path, url: str, error: Exception) -> InputError:
    archive.unlink()
    reason = str(error).strip() or type(error).__name__
    return InputError(f"{url} is not a sound ZIP archive ({reason}); it was removed, try again.")


def _check_member(member: zipfile.ZipInfo, url: str) -> None:
    name = member.filename
    path = PurePosixPath(name)
    fault = None
    if path.is_absolute() or "\\" in name or ":" in name or ".." in path.parts or not path.parts:
        fault = "leads out of the folder"
    elif stat.S_ISLNK(member.external_attr >> 16):
        fault = "is a link"
    elif member.flag_bits & 1:
        fault = "is encrypted"
    if fault:
        raise InputError(f"{url} holds {name!r}, which {fault}; it was not unpacked.")
