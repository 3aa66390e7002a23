"""One file over HTTP: goes on where an earlier attempt stopped, and is there only when it is the right one."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from features.errors import InputError

CHUNK = 1 << 20  # bytes read at once
ATTEMPTS = 5  # connections that may break before we give up; what has come is kept all the same
TIMEOUT = 60  # seconds without a byte

Show = Callable[[int, int | None], None]  # told the bytes that are here and, if the server says so, their total


def download(url: str, file: Path, checksum: str, show: Show = lambda *_: None) -> None:
    """Fetch `url` to `file`.

    Until it is complete and checked it lies beside it as `<name>.part`, with the server's version of it in
    `<name>.part.version`, so that parts of two versions are never put together.

    Args:
        url: http or https.
        file: what to write.
        checksum: `md5:...` or `sha256:...`; empty: the sha256 of the first download is kept in `<name>.sha256`, and
            later ones must have it too.
        show: called after each chunk.

    Raises:
        InputError: the server refuses or cannot be reached, or the file is not the one that the checksum is of.
    """
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: only http and https are fetched")
    part = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _receive(url, part, show):
                break
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{url}: the server says {error.code} {error.reason}; is the address still right?"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                raise InputError(f"{url}: {error}; {_kept(part)}") from error
    else:
        raise InputError(f"{url}: the connection broke {ATTEMPTS} times; {_kept(part)}")
    try:
        verify(part, checksum, first_checksum(file))
    except InputError as error:
        part.unlink()
        _version(part).unlink(missing_ok=True)
        raise InputError(
            f"{url}: what was fetched is not the file: {error}.\n"
            "  It was removed. Fetch it again; if it stays so, the file at this address has changed"
        ) from error
    part.replace(file)
    _version(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, show: Show) -> bool:
    """Receive what is missing of the file; whether all of it is here then."""
    have, version = _begun(part)
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    request = urllib.request.Request(url, headers={"User-Agent": "shipyard", **headers})  # noqa: S310 (http, see above)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            resumed = response.status == 206 and _starts_at(response.headers) == have
            have = have if resumed else 0
            length = response.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            _version(part).write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
            with part.open("ab" if resumed else "wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    show(have, total)
            return total is None or have == total
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send, or the file has shrunk: the checksum tells
            return True
        raise


def _begun(part: Path) -> tuple[int, str]:
    """How many bytes an earlier attempt left, and of which version; 0 where the server named none."""
    version = _version(part)
    if not part.is_file() or not version.is_file() or not (said := version.read_text()):
        return 0, ""
    return part.stat().st_size, said


def _version(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _starts_at(headers: http.client.HTTPMessage) -> int | None:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _kept(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return f"{size:,} bytes of it are kept in {part}; the same command goes on from there"


def first_checksum(file: Path) -> Path:
    """Where the checksum of the first download is kept, of a file that has no published one."""
    return file.with_name(f"{file.name}.sha256")


def verify(file: Path, checksum: str, record: Path) -> None:
    """Compare a file with its published checksum, or without one with that of the first download in `record`.

    Raises:
        InputError: it is another file.
    """
    first = record.read_text().strip() if record.is_file() else ""
    algorithm, _, expected = (checksum or first or "sha256:").partition(":")
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, algorithm).hexdigest()
    if not expected:
        record.write_text(f"sha256:{found}\n")
    elif found != expected:
        of = "as published" if checksum else f"of the first download, in {record}"
        raise InputError(f"its {algorithm} is {found}, not {expected} ({of})")
