"""Edit the text of `params.yaml`: set values by `key=value`, and insert entries into a block.

A change must be in `params.yaml` to take effect, because both the matrix of `dvc.yaml` and the stages read it. The new
value is spliced into the text, so every other byte stays. A round trip through ruamel.yaml keeps comments, but it also
joins lists that span several lines, re-indents sequences and rewrites `~`, `True` and empty values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from io import StringIO
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, SequenceNode

from features.errors import InputError, nearest, raise_all
from pipeline.config.migrations import current_name


def apply(text: str, assignments: Sequence[str], source: str = "--set") -> str:
    """Return the text of a params file with new values.

    Args:
        text: the text of a params file.
        assignments: `dotted.key=value`, the value in YAML as in the file. The last assignment of a key wins.
        source: where they come from, for the heading of an error.

    Raises:
        InputError: an assignment has no `=`, its key is not in the file or is a block, its value is not YAML, or one
            key lies inside another; all mistakes are listed.
    """
    problems: list[str] = []
    values: dict[tuple[int, int], str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        try:
            if not equals or not key.strip():
                raise InputError(f"invalid setting {assignment!r}: expected KEY=VALUE, for example 'grid.seeds=[1]'")
            values[_span_of_value(text, key.strip())] = _as_one_line(assignment, value.strip())
        except InputError as error:
            problems.append(str(error))

    spans = sorted(values)
    for (_, end), (next_start, next_end) in pairwise(spans):
        if next_start < end:
            problems.append(f"{text[next_start:next_end]!r} lies inside the value of another key that is also set")
    raise_all(problems, f"invalid {source}")

    # From the end, so that the positions of the earlier values stay valid.
    for start, end in reversed(spans):
        text = _splice(text, start, end, values[start, end])
    return text


def insert(text: str, block: str, name: str, value: Mapping[str, Any]) -> str:
    """Return the text of a params file with the line `name: {...}` after the last entry of a block.

    Args:
        text: the text of a params file.
        block: dotted key of the block, which must have one entry per line.
        name: key of the new entry.
        value: value of the new entry.

    Raises:
        InputError: there is no such block, it is not in block style, or it already has the name.
    """
    _, node = _find(text, block)
    if not isinstance(node, MappingNode) or node.flow_style or not node.value:
        raise InputError(f"{block} does not have one entry per line; add this entry by hand: {name}: {_flow(value)}")
    if name in (key.value for key, _ in node.value):
        raise InputError(f"{block}.{name} already exists; use another name, or remove it from the file first")

    end = text.find("\n", _last_leaf(node).end_mark.index)
    end = len(text) if end < 0 else end
    newline = "\r\n" if text[:end].endswith("\r") else "\n"
    end -= len(newline) - 1
    indent = " " * node.start_mark.column
    return f"{text[:end]}{newline}{indent}{name}: {_flow(value)}{text[end:]}"


def changes(before: str, after: str) -> list[str]:
    """Return the values that differ between two texts, as `dotted.key: old -> new`."""

    def compare(key: str, old: Any, new: Any) -> Iterator[str]:
        old_entries, new_entries = _entries(old), _entries(new)
        if old_entries and new_entries:
            for name in {**old_entries, **new_entries}:
                yield from compare(f"{key}.{name}" if key else name, old_entries.get(name), new_entries.get(name))
        elif (was := _text_of(before, old)) != (now := _text_of(after, new)):
            yield f"{key}: {was} -> {now}"

    return list(compare("", _composed(before), _composed(after)))


def _entries(node: Any) -> dict[str, Any]:
    """Return the nodes of a mapping by their keys; none of any other node."""
    return {name.value: value for name, value in node.value} if isinstance(node, MappingNode) else {}


def _text_of(text: str, node: Any) -> str:
    """Return the text of a node on one line; `absent` for None."""
    return "absent" if node is None else " ".join(text[node.start_mark.index : node.end_mark.index].split())


def _span_of_value(text: str, key: str) -> tuple[int, int]:
    """Return the start and end of the value of a dotted key; an empty span after the colon if it has no value."""
    name, value = _find(text, key)
    start, end = value.start_mark.index, value.end_mark.index

    # The parser places an empty value at the next token, which may be on another line.
    if start == end:
        start = end = text.index(":", name.end_mark.index) + 1
    elif _is_alias(name, value):
        start = text.index(f"*{value.anchor}", name.end_mark.index)
        end = start + len(f"*{value.anchor}")
    elif value.anchor:  # the anchor stays, so that its aliases have the new value
        after = start + len(f"&{value.anchor}")
        start = min(after + len(text[after:end]) - len(text[after:end].lstrip()), end)

    # A list of several lines is replaced whole, with the comments of its entries.
    if isinstance(value, SequenceNode) and not _is_alias(name, value) and not value.anchor:
        last, colon = _last_leaf(value), text.index(":", name.end_mark.index) + 1
        if value.flow_style:
            return start, end
        if start < last.start_mark.index < last.end_mark.index and not text[colon:start].strip():
            return colon, last.end_mark.index

    if "\n" in text[start:end]:
        raise InputError(f"{key} spans several lines; set one of its keys, or edit the file by hand")
    return start, end


@lru_cache(maxsize=1)
def _composed(text: str) -> Any:
    """Return the root node of the YAML tree; cached, because all assignments of a call read the same text."""
    return YAML(typ="rt", pure=True).compose(text)


def _find(text: str, key: str) -> tuple[Any, Any]:
    """Return the nodes of the name and the value of a dotted key."""
    name, value = None, _composed(text)
    path: list[str] = []
    parts = key.split(".")
    for part in parts:
        children = {name.value: (name, value) for name, value in value.value} if isinstance(value, MappingNode) else {}
        if part not in children:
            if new := current_name(key):
                raise InputError(f"{key} is now {new}")
            raise InputError(f"{key}: {part!r} is not in {'.'.join(path) or 'the file'}; {nearest(part, children)}")
        name, value = children[part]
        path.append(part)
        if isinstance(value, CollectionNode) and len(path) < len(parts) and _is_alias(name, value):
            raise InputError(
                f"{key}: {'.'.join(path)} is an alias, *{value.anchor}, whose values other keys share; edit it by hand"
            )
    return name, value


def _is_alias(name: Any, value: Any) -> bool:
    """Return whether a value is an alias, whose node is that of its anchor, which stands before the key."""
    return bool(value.start_mark.index < name.start_mark.index)


def _last_leaf(node: Any) -> Any:
    """Return the last leaf of a value; the end mark of a block itself lies after the comments that follow it."""
    while isinstance(node, CollectionNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return node


def _flow(value: Mapping[str, Any]) -> str:
    """Return a mapping as YAML on one line."""
    yaml = YAML(typ="safe")  # DVC's, which quotes what it cannot read in a flow mapping, such as random:0
    yaml.default_flow_style = True
    yaml.width = 1 << 20  # no line break
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]

    out = StringIO()
    yaml.dump(dict(value), out)
    return out.getvalue().strip()


def _splice(text: str, start: int, end: int, value: str) -> str:
    """Return the text with `text[start:end]` replaced; a comment after it keeps its column if there is room."""
    before, rest = text[:start], text[end:]
    if start == end or before.endswith(":"):
        value = f" {value}"

    comment = rest.lstrip(" ")
    if comment.startswith("#"):
        gap = 0 if "\n" in text[start:end] else len(rest) - len(comment) - len(value) + (end - start)
        rest = " " * max(gap, 2) + comment
    return before + value + rest


def _as_one_line(assignment: str, value: str) -> str:
    """Return the value as typed if it has the same meaning in a flow list and after a key, and as JSON otherwise.

    A key of `params.yaml` may stand in a flow mapping (`{a: 1, b: 2}`), where `,` and `}` end a value, or on a line of
    its own, where `a: b` is an error. JSON is valid YAML in either place.
    """
    try:
        meaning = _load(value)
    except YAMLError:
        raise InputError(f"{assignment!r}: the value is not valid YAML; quote text with special characters") from None

    try:
        same = "\n" not in value and [_load(f"[{value}]"), _load(f"key: {value}")] == [[meaning], {"key": meaning}]
    except YAMLError:
        same = False
    return value if same else json.dumps(meaning, ensure_ascii=False, default=str)


def _load(text: str) -> object:
    """Return the plain value of a YAML text, by the parser of DVC."""
    return YAML(typ="safe").load(text)
