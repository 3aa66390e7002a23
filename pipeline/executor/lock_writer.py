"""Write `dvc.lock` whole, and only the part of it that changed.

DVC updates its lock file after each stage: it parses the whole file with a parser that keeps comments, changes one
stage, and writes the whole file in place. On a grid of 300 stages that is most of DVC's time, and a kill in that moment
leaves the file cut or empty. Here the text of the other stages stays as it is, the changed stage is written by DVC's
own serializer, and the new file replaces the old one in one step. The bytes are those that DVC would have written.

`install` puts this in the place of `dvc.dvcfile.Lockfile.dump_stages`, tried with DVC 3.67.1. A DVC without that method
writes its file itself, as it does a file of another shape, with comments or with `datasets`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.formats.files import atomic_file

HEADER = "schema: '2.0'\nstages:\n"
COMMENT = re.compile(r"(^|\s)#", re.MULTILINE)  # or a value that looks like one
ALIAS = re.compile(r"(: |- )[&*]\w")  # which may stand in one stage and mean a part of another
STAGE = re.compile(r"^  (?! )(.+):\n", re.MULTILINE)  # a key two columns in begins the block of a stage


def install() -> None:
    """From now on, let DVC write its lock file by `dump_stages` below."""
    from dvc.dvcfile import Lockfile

    original = getattr(Lockfile, "dump_stages", None)
    if original is None:
        return

    def dump(self: Any, stages: Sequence[Any], **kwargs: Any) -> None:
        if stages and not dump_stages(self, stages, **kwargs):
            original(self, stages, **kwargs)

    Lockfile.dump_stages = dump


def dump_stages(lockfile: Any, stages: Sequence[Any], **kwargs: Any) -> bool:
    """Write the entries of stages into a lock file; return False if the file has another shape than DVC's own."""
    from dvc.dvcfile import logger
    from dvc.stage import serialize

    path = Path(lockfile.path)
    text = path.read_text(encoding="utf-8") if path.exists() else HEADER
    entries: dict[str, Any] = {}
    for stage in stages:
        entries.update(serialize.to_lockfile(stage, **kwargs))

    updated = updated_text(text, entries)
    if updated is None:
        return False
    if updated != text or not path.exists():
        logger.info("%s lock file '%s'", "Updating" if path.exists() else "Generating", lockfile.relpath)
        with atomic_file(path) as part:
            part.write_text(updated, encoding="utf-8")
        lockfile.repo.scm_context.track_file(lockfile.relpath)
    return True


def updated_text(text: str, entries: dict[str, Any]) -> str | None:
    """Return the text of a lock file with these entries, old ones in their place and new ones at the end.

    Args:
        text: of a lock file.
        entries: stage name -> its entry.

    Returns:
        None if the text is not laid out as DVC writes it.
    """
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    blocks = split_blocks(text)
    if blocks is None:
        return None

    for name, entry in entries.items():
        block = dumps_yaml({"stages": {name: _unshared(entry)}}).removeprefix("stages:\n")
        key = block.partition("\n")[0]
        if key in blocks and parse_yaml(blocks[key], name) == parse_yaml(block, name):
            continue  # equal values keep their text
        blocks[key] = block
    return HEADER + "".join(blocks.values())


def _unshared(value: Any) -> Any:
    """Return a copy in which no part stands twice.

    For such a part, from an alias in params.yaml, YAML would write an anchor, and two stages anchors of one name.
    """
    if isinstance(value, dict):
        return {key: _unshared(part) for key, part in value.items()}
    return [_unshared(part) for part in value] if isinstance(value, list) else value


def split_blocks(text: str) -> dict[str, str] | None:
    """Return the text of each stage by its first line; None if the text is not laid out as DVC writes it."""
    if not text.startswith(HEADER) or COMMENT.search(text) or ALIAS.search(text):
        return None
    body = text.removeprefix(HEADER)
    starts = [match.start() for match in STAGE.finditer(body)]
    if body and (starts[:1] != [0] or not body.endswith("\n")):
        return None

    ends = [*starts[1:], len(body)]
    blocks = [body[start:end] for start, end in zip(starts, ends, strict=False)]
    by_key = {block.partition("\n")[0]: block for block in blocks}
    return by_key if len(by_key) == len(blocks) else None
