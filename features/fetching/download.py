"""Download one file over HTTP: resume a broken download, and keep the file only if its checksum is right.

pooch, the usual library for this, cannot resume a download, and some of these archives have tens of gigabytes.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from features.errors import InputError

CHUNK = 1 << 20  # bytes per read
ATTEMPTS = 5  # connections that may break before the download fails; the received bytes are kept
TIMEOUT = 60  # seconds without a byte

Show = Callable[[int, int | None], None]  # receives the bytes so far and, if the server states it, the total


def download(url: str, file: Path, checksum: str, show: Show = lambda *_: None) -> None:
    """Download `url` to `file`.

    Until it is complete and checked, it is called `<name>.part`. The server's version of it is in
    `<name>.part.version`, so that parts of two versions are never combined.

    Args:
        url: An http or https address.
        file: The file to write.
        checksum: `md5:...` or `sha256:...`. If empty, the sha256 of the first download is kept in `<name>.sha256`, and
            later downloads must have the same.
        show: Progress callback, called after each chunk.

    Raises:
        InputError: The server refuses or cannot be reached, or the file has another checksum.
    """
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: invalid address; expected http or https")
    part = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)

    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _receive(url, part, show):
                break
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{url}: HTTP error {error.code} {error.reason}; check that the address is still valid"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                raise InputError(f"{url}: {error}; {_resume_hint(part)}") from error
    else:
        raise InputError(f"{url}: the connection broke {ATTEMPTS} times; {_resume_hint(part)}")

    try:
        verify(part, checksum, first_checksum(file))
    except InputError as error:
        part.unlink()
        _version_file(part).unlink(missing_ok=True)
        raise InputError(
            f"{url}: {error}.\n"
            "  The download was deleted. Retry; if the checksum still differs, the file at this URL has changed."
        ) from error
    part.replace(file)
    _version_file(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, show: Show) -> bool:
    """Receive the missing bytes of the file; return whether it is complete."""
    received, version = _resume_point(part)
    # With If-Range the server sends the rest only if its version is the same, and otherwise the whole file.
    headers = {"Range": f"bytes={received}-", "If-Range": version} if received else {}
    request = urllib.request.Request(url, headers={"User-Agent": "shipyard", **headers})  # noqa: S310 (http, see above)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            resumed = response.status == 206 and _range_start(response.headers) == received
            received = received if resumed else 0
            length = response.headers.get("Content-Length")
            total = None if length is None else received + int(length)

            new_version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            _version_file(part).write_text(new_version)
            with part.open("ab" if resumed else "wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    received += len(chunk)
                    show(received, total)
            return total is None or received == total
    except urllib.error.HTTPError as error:
        # 416: the file has no more bytes, or it has become shorter; the checksum decides.
        if error.code == 416 and received:
            return True
        raise


def _resume_point(part: Path) -> tuple[int, str]:
    """Return the bytes of an earlier attempt and their version; (0, "") if the server stated no version."""
    file = _version_file(part)
    version = file.read_text() if part.is_file() and file.is_file() else ""
    if not version:
        return 0, ""
    return part.stat().st_size, version


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _range_start(headers: http.client.HTTPMessage) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _resume_hint(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return f"{size:,} bytes are kept in {part}; run the same command again to continue"


def first_checksum(file: Path) -> Path:
    """Return the file that keeps the checksum of the first download, if none is published."""
    return file.with_name(f"{file.name}.sha256")


def verify(file: Path, checksum: str, record: Path) -> None:
    """Compare a file with its checksum.

    Args:
        file: The file.
        checksum: The published checksum; empty if there is none.
        record: The file with the checksum of the first download, used without a published one. It is written if it
            does not exist.

    Raises:
        InputError: The checksum differs.
    """
    first = record.read_text().strip() if record.is_file() else ""
    algorithm, _, expected = (checksum or first or "sha256:").partition(":")
    with file.open("rb") as opened:
        actual = hashlib.file_digest(opened, algorithm).hexdigest()

    if not expected:
        record.write_text(f"sha256:{actual}\n")
    elif actual != expected:
        origin = "published" if checksum else f"of the first download, in {record}"
        raise InputError(f"wrong checksum: {algorithm} is {actual}, expected {expected} ({origin})")
