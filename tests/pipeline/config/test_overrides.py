"""`--set key=value` changes one value of `params.yaml` and leaves every other byte of the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project_root import ROOT
from ruamel.yaml import YAML

from features.errors import InputError
from pipeline.config import overrides

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


def load(text: str) -> Any:
    """Parse a text as DVC and the stages do."""
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("grid.datasets=[caltech101]", ("grid", "datasets"), ["caltech101"]),
        ("grid.encoder=vit_b16", ("grid", "encoder"), "vit_b16"),
        ("grid.seeds=[1]", ("grid", "seeds"), [1]),
        ("data.root=../shared/data", ("data", "root"), "../shared/data"),
        ("data.root=C:\\data", ("data", "root"), "C:\\data"),
        ('data.root="a, b # c"', ("data", "root"), "a, b # c"),
        ("data.root=a=b", ("data", "root"), "a=b"),
        ("methods.coop.learning_rate=1e-3", ("methods", "coop", "learning_rate"), 0.001),
        ("methods.coop.init=null", ("methods", "coop", "init"), None),
        ("methods.coop.init=a picture of the", ("methods", "coop", "init"), "a picture of the"),
        ("extract.view_scale=[0.1, 1]", ("extract", "view_scale"), [0.1, 1]),
        ("encoders.rn50.pretrained=yfcc15m", ("encoders", "rn50", "pretrained"), "yfcc15m"),
    ],
)
def test_a_value_is_set_and_everything_else_stays(assignment: str, path: tuple[str, ...], value: object) -> None:
    before, text = load(SHIPPED), overrides.apply(SHIPPED, [assignment])
    after = load(text)
    block = before
    for part in path[:-1]:
        block = block[part]
    block[path[-1]] = value
    assert after == before
    changed = [pair for pair in zip(SHIPPED.splitlines(), text.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    old, new = changed[0]
    assert new.endswith(old.partition(" #")[2])


PLAIN = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["C"]))


@given(st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:#,"), inner)))
def test_any_value_survives_the_round_trip(value: object) -> None:
    text = "before: 1\nblock: {key: [1, 2], other: 3}  # why\nafter: 2\n"
    after = load(overrides.apply(text, [f"block.key={json.dumps(value, ensure_ascii=False)}"]))
    assert after == {"before": 1, "block": {"key": value, "other": 3}, "after": 2}


def test_a_value_with_a_colon_can_be_read_by_dvc_inside_braces() -> None:
    from dvc.utils.serialize import loads_yaml

    text = "encoders:\n  vit: {model: RN50, pretrained: openai}\n"
    after = overrides.apply(text, ["encoders.vit.pretrained=random:0"])
    after = overrides.insert(after, "encoders", "other", {"model": "local-dir:x", "pretrained": "random:1"})
    expected = {"vit": {"model": "RN50", "pretrained": "random:0"}}
    expected["other"] = {"model": "local-dir:x", "pretrained": "random:1"}
    assert loads_yaml(after)["encoders"] == expected


@pytest.mark.parametrize("text", ["key:\nnext: 1\n", "key:   # why\nnext: 1\n", "key: \n\nnext: 1\n", "next: 1\nkey:"])
def test_a_key_without_a_value_can_be_set(text: str) -> None:
    assert load(overrides.apply(text, ["key=5"])) == {"key": 5, "next": 1}


SHARED = "few: &few {shots: 1}\nmany: &many 16\nblock: {key: *many, other: *few}\nlast: *many\nempty: &none\n"


@pytest.mark.parametrize(
    ("assignment", "was", "now"),
    [
        ("block.key=4", "{key: *many,", "{key: 4,"),  # an alias gets a value of its own
        ("last=4", "last: *many", "last: 4"),
        ("many=4", "&many 16", "&many 4"),  # an anchor stays one
        ("few.shots=4", "{shots: 1}", "{shots: 4}"),
        ("empty=4", "&none", "&none 4"),
    ],
)
def test_an_alias_gets_its_own_value_and_an_anchor_stays(assignment: str, was: str, now: str) -> None:
    assert overrides.apply(SHARED, [assignment]) == SHARED.replace(was, now)


def test_no_value_is_set_through_an_alias() -> None:
    with pytest.raises(InputError, match=r"block\.other\.shots.*\*few"):
        overrides.apply(SHARED, ["block.other.shots=4"])


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("g:\n  d:\n    - a  # x\n    # c\n    - b  # y\n  # z\n  e: 1\n", "g:\n  d: [n]  # y\n  # z\n  e: 1\n"),
        ("g:\n  d:\n  - a\n  - {b: 1}\n  e: 1\n", "g:\n  d: [n]\n  e: 1\n"),
        ("g:\n  d: [a,  # x\n    b]  # y\n  e: 1\n", "g:\n  d: [n]  # y\n  e: 1\n"),
        ("g: {d: [a,\n  b], e: 1}\n", "g: {d: [n], e: 1}\n"),
        ("g:\n  d:\n  - a", "g:\n  d: [n]"),
    ],
)
def test_a_list_of_several_lines_can_be_set(text: str, after: str) -> None:
    assert overrides.apply(text, ["g.d=[n]"]) == after


@pytest.mark.parametrize("text", ["x: &s 1\ng: {e: 1}\nd:\n- *s\n", "d:\n- a\n-\n", "d: # which\n- a\n- b\n"])
def test_a_list_whose_end_or_indentation_is_in_doubt_is_left_to_the_user(text: str) -> None:
    with pytest.raises(InputError, match="d spans several lines"):
        overrides.apply(text, ["d=[n]"])


def test_a_mapping_without_braces_can_be_set() -> None:
    assert load(overrides.apply("key: 1\nlast: 2\n", ["key=a: b"])) == {"key": {"a": "b"}, "last": 2}


def test_the_ends_of_lines_stay() -> None:
    text = "key: 1  # why\r\nblock:\r\n  a: {b: 1}\r\nlast: 2\r\n"
    after = overrides.insert(overrides.apply(text, ["key=5"]), "block", "c", {"d": 1})
    assert after == text.replace("key: 1", "key: 5").replace("last", "  c: {d: 1}\r\nlast")


def test_a_comment_keeps_its_column() -> None:
    assert overrides.apply("key: old      # why\n", ["key=longer"]) == "key: longer   # why\n"
    assert overrides.apply("key: old  # why\n", ["key=longer"]) == "key: longer  # why\n"


def test_every_mistake_is_reported() -> None:
    bad = ["grid", "=3", "grid.sedes=[1]", "nothing.at.all=1", "methods=3", "grid.seeds.0=1", "data.root=["]
    with pytest.raises(InputError) as caught:
        overrides.apply(SHIPPED, bad)
    message = str(caught.value)
    assert "7 problems" in message
    for assignment in ("'grid'", "'=3'", "'data.root=['"):
        assert assignment in message
    for key, part, hint in (
        ("grid.sedes", "'sedes'", "'seeds'"),
        ("nothing.at.all", "'nothing'", "known: "),
        ("methods", "", ""),
        ("grid.seeds.0", "'0'", ""),
    ):
        (line,) = [line for line in message.splitlines() if line.startswith(f"  - {key}")]
        assert part in line
        assert hint in line


@pytest.mark.parametrize(
    ("key", "new"), [("grid.choose=[mine]", "grid.select"), ("projection.classes=3", "visualization.classes")]
)
def test_a_renamed_key_is_reported_with_its_new_name(key: str, new: str) -> None:
    with pytest.raises(InputError, match=f"{new}$"):
        overrides.apply(SHIPPED, [key])


def test_the_rest_of_a_file_is_not_reformatted() -> None:
    text = "key: [1,\n  2]   # two lines\nseq:\n- ~\nflag:   True\nempty:\nlast: 'x'\n"
    assert overrides.apply(text, ["last=y"]) == text.replace("'x'", "y")


def test_changes_are_shown_without_comments() -> None:
    after = overrides.apply(SHIPPED, ["grid.datasets=[caltech101]", "data.root=/path/to/data"])
    assert overrides.changes(SHIPPED, after) == [
        "grid.datasets: [twemoji] -> [caltech101]",
        "data.root: data -> /path/to/data",
    ]
