"""Changes of `params.yaml` that leave every other byte as it was: `key=value`, and new entries of a block.

The matrix of `dvc.yaml` and the stages all read `params.yaml`, so a change has to stand there to count. Cutting the
new value into the text keeps comments and columns, which reading and dumping the file would not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import StringIO
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode

from features.errors import InputError, nearest, raise_all


def apply(text: str, assignments: Sequence[str]) -> str:
    """The text of a params file with each `dotted.key=value` set, the last of a key; a value is YAML, as in the file.

    Raises:
        InputError: an assignment without `=`, a key that the file does not have or that is a block, a value that is
            not YAML, a key inside another one; all are listed.
    """
    problems, values = [], dict[tuple[int, int], str]()
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        try:
            if not equals or not key.strip():
                raise InputError(f"{assignment!r} is no key=value; write for instance 'grid.seeds=[1]'")
            values[_place(text, key.strip())] = _on_one_line(assignment, value.strip())
        except InputError as error:
            problems.append(str(error))
    places = sorted(values)
    problems += [f"{text[b[0] : b[1]]!r} stands inside another key" for a, b in pairwise(places) if b[0] < a[1]]
    raise_all(problems, "--set cannot be used")
    for start, end in reversed(places):
        text = _cut_in(text, start, end, values[start, end])
    return text


def insert(text: str, block: str, name: str, value: Mapping[str, Any]) -> str:
    """The text of a params file with `name: {...}` on a line of its own behind the last entry of a dotted block.

    Raises:
        InputError: there is no such block, it is not one with an entry a line, or it has the name already.
    """
    _, node = _find(text, block)
    if not isinstance(node, MappingNode) or node.flow_style or not node.value:
        raise InputError(f"{block} is no block with an entry a line; write {name}: {_flow(value)} into it by hand")
    if name in (key.value for key, _ in node.value):
        raise InputError(f"{block}.{name} is there already: choose another name, or remove it from the file first")
    end = text.find("\n", _last(node).end_mark.index)
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * node.start_mark.column}{name}: {_flow(value)}{text[end:]}"


def changes(before: str, after: str) -> list[str]:
    """The lines that `apply` changed, as `key: old -> new`, without their comments."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return [f"{_bare(old)} -> {_bare(new).partition(':')[2].strip()}" for old, new in pairs if old != new]


def _place(text: str, key: str) -> tuple[int, int]:
    """Where in the text the value of a dotted key starts and ends; the same place twice, after the colon, for none."""
    name, value = _find(text, key)
    start, end = value.start_mark.index, value.end_mark.index
    if start == end:
        start = end = text.index(":", name.end_mark.index) + 1
    if "\n" in text[start:end]:
        raise InputError(f"{key}: stands on several lines; set one of its keys, or change it by hand")
    return start, end


@lru_cache(maxsize=1)
def _composed(text: str) -> Any:
    return YAML(typ="rt", pure=True).compose(text)


def _find(text: str, key: str) -> tuple[Any, Any]:
    """The nodes of a dotted key's name and value."""
    name, value = None, _composed(text)
    path: list[str] = []
    for part in key.split("."):
        children = {name.value: (name, value) for name, value in value.value} if isinstance(value, MappingNode) else {}
        if part not in children:
            place = ".".join(path) or "the file"
            raise InputError(f"{key}: {part!r} is not in {place}; {nearest(part, children)}")
        name, value = children[part]
        path.append(part)
    return name, value


def _last(node: Any) -> Any:
    """The last piece of a value; a block's own end lies behind the comments that follow it."""
    while isinstance(node, CollectionNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return node


def _flow(value: Mapping[str, Any]) -> str:
    """A mapping as YAML on one line."""
    yaml, out = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style, yaml.width = True, 1 << 20
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(value), out)
    return out.getvalue().strip()


def _cut_in(text: str, start: int, end: int, value: str) -> str:
    """The text with `value` in place of `text[start:end]`; a comment behind it keeps its column where it can."""
    before, rest = text[:start], text[end:]
    if start == end:
        value = f" {value}"
    comment = rest.lstrip(" ")
    if comment.startswith("#"):
        gap = len(rest) - len(comment) - len(value) + (end - start)
        rest = " " * max(gap, 2) + comment
    return before + value + rest


def _on_one_line(assignment: str, value: str) -> str:
    """The value as it was typed if it means the same inside a list, else as JSON, which is YAML too."""
    try:
        meant = _load(value)
    except YAMLError:
        raise InputError(f"{assignment!r}: the value is not YAML; quote a text that holds special signs") from None
    try:
        same = "\n" not in value and _load(f"[{value}]") == [meant]
    except YAMLError:
        same = False
    return value if same else json.dumps(meant, ensure_ascii=False, default=str)


def _load(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def _bare(line: str) -> str:
    return line.partition(" #")[0].strip()
