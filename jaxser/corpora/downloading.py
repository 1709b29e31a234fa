"""Fetch a corpus that may be fetched freely: resumed, verified, unpacked with path checks.

    print(download(jaxser.corpora.get_spec("ravdess"), Path("data/ravdess")))

An interrupted download goes on where it stopped. The archive is compared with the published
digest; where none is published, the SHA-256 of the first download is kept in ``DOWNLOAD.json`` and
later ones must match it (trust on first use). The folder appears under its name only when whole.
"""

import hashlib
import http.client
import json
import secrets
import shutil
import ssl
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from jaxser.corpora import locate
from jaxser.corpora.spec import CorpusSpec, Download
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import write_text

__all__ = ["RECORD", "download"]

RECORD = "DOWNLOAD.json"

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
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
    root = root.parent.resolve() / root.name
    held = _record_of(root)
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; give a new or empty folder.")
    if root.is_dir() and any(path.name != RECORD for path in root.iterdir()):
        locate(spec, root)
        return f"{root} holds {spec.title} already; nothing was fetched."
    root.parent.mkdir(parents=True, exist_ok=True)
    record = {}
    with _temporary_folder(root) as folder:
        archives = []
        for source in spec.download:
            archive = root.with_name(f".{root.name}.{PurePosixPath(source.url).name}.part")
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


def _trust(spec: CorpusSpec, held: dict[str, Any]) -> str:
    if all(source.digest for source in spec.download):
        return "The archive has the published checksum."
    if held:
        return f"The archive is the one fetched before, by the SHA-256 in {RECORD}."
    return (
        "No checksum is published for the archive: its SHA-256 was recorded in "
        f"{RECORD} and later downloads into this folder must match it, but this first one was "
        "taken on trust; check it with 'python -m jaxser.corpora check'."
    )


def _record_of(root: Path) -> dict[str, Any]:
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise InputError(f"{root / RECORD} is not JSON; remove it to fetch without it.") from error
    if not isinstance(record, dict):
        raise InputError(f"{root / RECORD} is not a record of downloads; remove it.")
    return record


@contextmanager
def _temporary_folder(root: Path) -> Iterator[Path]:
    folder = root.with_name(f".{root.name}.unpacking-{secrets.token_hex(4)}")
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
    start = _size(part) if state.exists() else 0
    version = json.loads(state.read_text())["version"] if start else None
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
        total = start + int(length) if length else None
        tag = response.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else None
        write_text(state, json.dumps({"version": strong or response.headers.get("Last-Modified")}))
        _receive(response, part, start, total, progress)
    if total is not None and _size(part) < total:
        raise ConnectionError(f"of {total:,} bytes")


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


def _verify(source: Download, archive: Path, held: Any) -> dict[str, Any]:
    """What goes into the record; the archive is removed if it is not the expected one."""
    expected = [source.digest] if source.digest else []
    if isinstance(held, dict) and "sha256" in held:
        expected.append(f"sha256:{held['sha256']}")
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
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        archive.unlink()
        raise InputError(
            f"{url} is not a sound ZIP archive ({error}); it was removed, try again."
        ) from error
    except FileExistsError as error:
        raise InputError(f"{url} holds {error.filename} twice; it was not unpacked.") from error


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
