"""Archives of images, in a folder or in a bucket: find them, tell whether one has changed, and open it.

An archive is a tar (WebDataset's shards) or a table (Parquet, Arrow) whose rows hold the bytes of images, as Hugging
Face stores them. Nothing is ever unpacked: a member's name is a name in the index, and never the path of a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

from features.errors import InputError

TARS = (".tar",)
TABLES = (".parquet", ".arrow")
SUFFIXES = (*TARS, *TABLES)
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

MAX_IMAGE_BYTES = 1 << 28  # of one member; a larger one is not read
MAX_BRACES = 100_000  # archives that a pattern with braces may name
BRACES = re.compile(r"\{([^{}]*)\}")
REMOTE_HINT = (
    "Check the address and the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "AWS_ENDPOINT_URL if it is not Amazon's), and that the client is installed (s3: pip install -e '.[s3]')"
)

Base = Path | str  # a folder, or an address as fsspec writes it: s3://bucket/prefix, hf://datasets/user/name


def is_address(text: str) -> bool:
    """Return whether a text is an address of fsspec instead of a path."""
    return "://" in text


def base_of(text: str) -> Base:
    """Return the folder or the address that a text names."""
    return text.rstrip("/") if is_address(text) else Path(text)


def resolved(base: Base) -> Base:
    """Return a base that means the same in every folder of this machine."""
    return base.resolve() if isinstance(base, Path) else base


@dataclass(frozen=True, order=True)
class Archive:
    """An archive.

    Attributes:
        name: its POSIX path below the base.
        size: in bytes.
        version: what changes when its bytes do: the time of a file, the tag of an object.
    """

    name: str
    size: int
    version: str

    @property
    def is_table(self) -> bool:
        """Whether its members are rows of a table."""
        return self.name.endswith(TABLES)


def find_archives(base: Base, pattern: str) -> tuple[list[Archive], list[str]]:
    """Return the archives that a pattern names, in the order of their names, and what is wrong.

    Args:
        base: The folder or address below which they lie.
        pattern: Relative to it, with `*`, `**`, or `{000000..000009}` and `{a,b}` as the shell expands them.

    Raises:
        InputError: The pattern leaves the base, or the address cannot be used.
    """
    found: dict[str, Archive] = {}
    problems = []
    for part in expand_braces(pattern):
        if part.startswith("/") or ".." in part.split("/"):
            raise InputError(f"shards: {pattern!r} must be relative to {base}, without `..`")
        here = sorted(_matching(base, part))
        found |= {archive.name: archive for archive in here}
        if not here:
            problems.append(f"{base}/{part}: there is no such archive")
    for name in [name for name in found if name.endswith(COMPRESSED_TARS)]:
        del found[name]
        problems.append(f"{name}: a compressed tar cannot be read at a position; unpack it to .tar (gunzip, unzstd)")
    others = [name for name in found if not name.endswith(SUFFIXES)]
    problems += [f"{name}: archives end with {', '.join(SUFFIXES)}" for name in others]
    return sorted(archive for name, archive in found.items() if name not in others), problems


def expand_braces(pattern: str) -> list[str]:
    """Return the texts that a pattern with braces stands for; a range keeps its zeros.

    Raises:
        InputError: There are more than `MAX_BRACES`, or a brace holds nothing that the shell would expand.
    """
    pieces: list[list[str]] = []
    count, end = 1, 0
    for brace in BRACES.finditer(pattern):
        options = _options(brace.group(1), pattern)
        pieces += [[pattern[end : brace.start()]], options]
        count, end = count * len(options), brace.end()
        if count > MAX_BRACES:
            raise InputError(f"shards: {pattern!r} stands for more than {MAX_BRACES:,} archives")
    return ["".join(parts) for parts in product(*pieces, [pattern[end:]])]


def _options(inside: str, pattern: str) -> list[str]:
    if bounds := re.fullmatch(r"(\d{1,12})\.\.(\d{1,12})", inside):
        first, last = bounds.groups()
        numbers = range(int(first), int(last) + 1)
        if not 0 < len(numbers) <= MAX_BRACES:
            raise InputError(f"shards: {{{inside}}} in {pattern!r} stands for {len(numbers):,} archives")
        return [f"{number:0{len(first)}}" for number in numbers]
    if "," in inside:
        return inside.split(",")
    raise InputError(f"shards: {{{inside}}} in {pattern!r} is neither a range {{000..009}} nor a list {{a,b}}")


def _matching(base: Base, pattern: str) -> Iterator[Archive]:
    if isinstance(base, Path):
        for file in base.glob(pattern):
            if file.is_file() and not file.name.startswith("."):
                status = file.stat()
                yield Archive(file.relative_to(base).as_posix(), status.st_size, str(status.st_mtime_ns))
        return
    with _file_system(base) as (files, root):
        for path in files.glob(f"{root}/{pattern}"):
            info = files.info(path)
            if info["type"] == "file":
                yield Archive(path.removeprefix(f"{root}/"), int(info["size"]), str(files.ukey(path)))


@contextmanager
def _file_system(address: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of an address, and the path of the address in it."""
    from fsspec.core import url_to_fs

    try:
        # No cache of listings: it would hide that an archive was replaced.
        files, root = url_to_fs(address, use_listings_cache=False)
        yield files, root.rstrip("/")
    except InputError:
        raise
    except Exception as error:  # each kind of bucket has errors of its own
        raise InputError(f"cannot read {address}: {str(error) or type(error).__name__}. {REMOTE_HINT}") from error


def sizes_of(base: Base, names: Iterable[str]) -> dict[str, int | None]:
    """Return the size of each archive in bytes; None: there is none."""
    if isinstance(base, Path):
        files = {name: base / name for name in names}
        return {name: file.stat().st_size if file.is_file() else None for name, file in files.items()}
    with _file_system(base) as (files, root):
        found = {name: f"{root}/{name}" for name in names}
        return {name: int(files.info(path)["size"]) if files.exists(path) else None for name, path in found.items()}


def names_beside(base: Base, names: Iterable[str]) -> list[str]:
    """Return those of some names that are files below the base."""
    return [name for name, size in sizes_of(base, names).items() if size is not None]


def archives_named(text: str, holds_images: Callable[[Base, str], bool]) -> tuple[Base, str] | None:
    """Return the base and the pattern of the archives that a person names; None if it names something else.

    It may be an archive, a pattern of archives, or a folder or an address that holds archives and no images.

    Args:
        text: What the person names.
        holds_images: Returns whether a table holds the bytes of images, and not only their paths.

    Raises:
        InputError: An address cannot be used, or holds no archive.
    """
    if text.endswith(SUFFIXES) or BRACES.search(text) or "*" in text:
        first = next((at for at, character in enumerate(text) if character in "*{"), len(text))
        start = text.rfind("/", 0, first)
        base, pattern = base_of(text[:start] if start > 0 else "."), text[start + 1 :]
        archives = [one for one in find_archives(base, pattern)[0] if not one.name.endswith(COMPRESSED_TARS)]
        is_images = not archives or archives[0].name.endswith((".tar", ".arrow"))
        return (base, pattern) if is_images or holds_images(base, archives[0].name) else None
    if not is_address(text) and not Path(text).is_dir():
        return None

    base = base_of(text)
    for suffix in SUFFIXES:
        found, _ = find_archives(base, f"**/*{suffix}")
        if found and (suffix in TARS or holds_images(base, found[0].name)):
            return base, f"**/*{suffix}"
    if is_address(text):
        raise InputError(f"{text} holds no archive of images ({', '.join(SUFFIXES)})")
    return None


def read_text(base: Base, name: str) -> str:
    """Return the text of a small file beside the archives.

    Raises:
        InputError: It does not exist, is larger than 1 MB or not UTF-8.
    """
    with open_binary(base, name) as file:
        data = file.read((1 << 20) + 1)
    if len(data) > 1 << 20:
        raise InputError(f"{base}/{name} is larger than 1 MB")
    try:
        return bytes(data).decode("utf-8-sig")
    except ValueError as error:
        raise InputError(f"{base}/{name} is not UTF-8: {error}") from error


@contextmanager
def open_binary(base: Base, name: str) -> Iterator[IO[bytes]]:
    """Yield a file below the base, open for reading at any position.

    Raises:
        InputError: It cannot be opened or read.
    """
    if isinstance(base, Path):
        try:
            with (base / name).open("rb") as local:
                yield local
        except OSError as error:
            raise InputError(f"{base / name} cannot be read: {error.strerror or error}") from error
    else:
        with _file_system(base) as (files, root), files.open(f"{root}/{name}", "rb") as remote:
            yield remote


def read_ranges(base: Base, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
    """Return the bytes of some ranges (start, end) of a file; of a remote one, near ranges in one request.

    Raises:
        InputError: The file cannot be read.
    """
    if isinstance(base, Path):
        with open_binary(base, name) as file:
            return [_read_at(file, start, end) for start, end in ranges]

    spans = _joined(ranges)
    with _file_system(base) as (files, root):
        paths = [f"{root}/{name}"] * len(spans)
        data = files.cat_ranges(paths, *map(list, zip(*spans, strict=True)), on_error="raise")
    blocks = dict(zip(spans, data, strict=True))
    return [
        next(block[start - first : end - first] for (first, last), block in blocks.items() if first <= start < last)
        for start, end in ranges
    ]


GAP = 1 << 20  # bytes between two ranges that cost less to transfer than a second request


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans that cover the ranges; ranges with less than `GAP` between them share one."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if spans and start - spans[-1][1] < GAP:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def _read_at(file: IO[bytes], start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
