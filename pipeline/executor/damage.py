"""Damage at rest: bytes of outputs that changed, in the workspace or in DVC's cache, since `dvc.lock` recorded them.

DVC hashes a file once and trusts its time and size from then on, and it trusts its cache. So a flipped bit in either
goes unseen: it is checked out, or read by the next stage. Here every byte is hashed again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.formats.files import atomic_file, remove
from pipeline.artifacts.paths import ROOT
from pipeline.executor.repository import read_lock_file

THREADS = 4  # hashing releases Python's lock
FOLDER = ".dir"  # ends the hash of a folder, which is that of its listing
CACHE_MODE = 0o444  # DVC protects its objects


@dataclass(frozen=True)
class Tracked:
    """A file of an output, or a folder with its listing.

    Attributes:
        output: path of the output in `dvc.lock`.
        copies: where the same bytes must be: in the workspace and in the cache. They may be missing.
        md5: of these bytes.
        content: the bytes, if they are known without a copy; of a listing.
    """

    output: Path
    copies: tuple[Path, ...]
    md5: str
    content: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of the copies."""
        files = (path for copy in self.copies for path in (copy.rglob("*") if copy.is_dir() else [copy]))
        return sum(path.stat().st_size for path in files if path.is_file())

    @property
    def missing(self) -> bool:
        """Whether no copy exists, as before a pull."""
        return self.content is None and not any(path.exists() for path in self.copies)

    def check(self) -> Damage | None:
        """Hash every copy; return what is damaged, None if nothing is."""
        found = {path: md5_of(path) for path in self.copies if path.exists()}
        bad = tuple(path for path, md5 in found.items() if md5 != self.md5)
        good = next((path for path, md5 in found.items() if md5 == self.md5), None)
        return Damage(self, bad, good) if bad else None


@dataclass(frozen=True)
class Damage:
    """Damaged copies of a file, and a whole one if there is any."""

    tracked: Tracked
    bad: tuple[Path, ...]
    good: Path | None

    def repair(self) -> Iterator[str]:
        """Replace damaged copies by a whole one, or remove them with their output; yield what was done.

        Nothing outside `artifacts` and the cache is changed.
        """
        output = self.tracked.output
        for path in self.bad:
            if path.is_relative_to(output) and not _is_artifact(path):
                yield f"{path}: left alone, because it is not in {ROOT}"
            elif self.good or self.tracked.content is not None:
                _restore(path, self.good or self.tracked.content or b"")
                yield f"{path}: restored from the other copy"
            else:
                remove(path)
                yield f"{path}: removed"
        if self.good is None and self.tracked.content is None and _is_artifact(output) and output.exists():
            remove(output)
            yield f"{output}: removed; `shipyard run` makes it again, `dvc pull` fetches it"


def _restore(path: Path, source: Path | bytes) -> None:
    cached = path.stat().st_mode & 0o777 == CACHE_MODE
    with atomic_file(path) as part:
        if isinstance(source, Path):
            shutil.copyfile(source, part)
        else:
            part.write_bytes(source)
        if cached:
            part.chmod(CACHE_MODE)


def tracked_files(cache: Path) -> list[Tracked]:
    """Return every file of every output in `dvc.lock`.

    Args:
        cache: the folder of DVC's cache that holds objects by their md5.
    """
    outputs = {out["path"]: out["md5"] for out in _entries("outs")}
    return [tracked for path, md5 in outputs.items() for tracked in _tracked(Path(path), md5, cache)]


def _tracked(output: Path, md5: str, cache: Path) -> Iterator[Tracked]:
    cached = cache / md5[:2] / md5[2:]
    if not md5.endswith(FOLDER):
        yield Tracked(output, (output, cached), md5)
        return

    md5 = md5.removesuffix(FOLDER)
    listing = _whole_listing(output, cached, md5)
    if listing is None:
        yield Tracked(output, (cached, output), md5)
        return
    yield Tracked(output, (cached,), md5, listing)
    for entry in json.loads(listing):
        of_file: str = entry["md5"]
        yield Tracked(output, (output / entry["relpath"], cache / of_file[:2] / of_file[2:]), of_file)


def _whole_listing(output: Path, cached: Path, md5: str) -> bytes | None:
    """Return the listing of a folder with a given md5: from the cache, or else made from the folder."""
    content = cached.read_bytes() if cached.is_file() else b""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        content = listing_of(output)
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def listing_of(folder: Path) -> bytes:
    """Return the listing that DVC makes of a folder: the md5 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [{"md5": md5_of(path), "relpath": path.relative_to(folder).as_posix()} for path in files]
    return json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()


def find_damage(files: Iterable[Tracked]) -> Iterator[Damage]:
    """Hash files and yield those that are damaged."""
    with ThreadPoolExecutor(THREADS) as pool:
        for damage in pool.map(Tracked.check, files):
            if damage:
                yield damage


def changed_inputs() -> Iterator[Path]:
    """Yield the user's files that are not as the last run read them: edited or damaged, which nobody can tell apart."""
    deps = {dep["path"]: dep.get("md5") for dep in _entries("deps")}
    for name, md5 in sorted(deps.items()):
        path = Path(name)
        if md5 and path.is_file() and not _is_artifact(path) and md5_of(path) != md5:
            yield path


def cache_folder() -> Path:
    """Return the folder of DVC's cache that holds objects by their md5.

    Raises:
        InputError: this folder is not the root of a project, or DVC cannot open it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if not Path(".dvc").is_dir():
        raise InputError(f"{Path.cwd()} is not the root of the project: change to the folder that holds dvc.yaml")
    try:
        with Repo() as repo:
            return Path(repo.cache.local.path)
    except DvcException as error:
        raise InputError(f"DVC cannot open this project: {error}. `shipyard doctor` says what is missing") from error


def _entries(kind: str) -> Iterator[dict[str, Any]]:
    """Yield the outputs (`outs`) or the deps (`deps`) of every stage in `dvc.lock`."""
    for stage in read_lock_file()["stages"].values():
        yield from stage.get(kind, ())


def _is_artifact(path: Path) -> bool:
    return (path.parent.resolve() / path.name).is_relative_to(ROOT.resolve())  # it may be a link into DVC's cache


def md5_of(path: Path) -> str:
    """Return the md5 of a file or of a folder's listing; empty if it cannot be read."""
    if path.is_dir():
        return hashlib.md5(listing_of(path), usedforsecurity=False).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return ""
