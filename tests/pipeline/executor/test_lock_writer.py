"""The writer of `dvc.lock`: DVC's own bytes, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_repo import make_repo, run

from pipeline.executor.lock_writer import HEADER, split_blocks, updated_text

VALUES = [
    "12e34",
    "on",
    "null",
    "",
    "1_000",
    "a: b",
    "é",
    "line\nbreak",
    "word " * 40,
    "1.5",
    "it's",
    "😀",
    None,
]
VALUES += [1, 1.0, 1e-05, True, [], {}, {"x": []}]


def entry(**more: Any) -> dict[str, Any]:
    command = "python -m stages.fit --dataset twemoji --task base_to_new --method tip_adapter_f --generator ship"
    return {"cmd": command, "deps": [{"path": "a/b", "hash": "md5", "md5": "12e34", "size": 7}], **more}


def whole(entries: dict[str, Any]) -> str:
    from dvc.utils.serialize import dumps_yaml

    return dumps_yaml({"schema": "2.0", "stages": entries})


def test_a_lock_that_is_built_stage_by_stage_has_the_bytes_that_dvc_writes() -> None:
    entries = {
        "code": entry(),
        "fit@a-coop": entry(params={"params.yaml": {"k": dict(enumerate(map(str, VALUES))), "l": VALUES}}),
        "a b: c": entry(outs=[]),
    }
    text = HEADER
    for name, value in entries.items():
        updated = updated_text(text, {name: value})
        assert updated is not None
        text = updated
    assert text == whole(entries)

    changed = {**entries, "code": entry(outs=[{"path": "x"}])}
    assert updated_text(text, {"code": changed["code"]}) == whole(changed)


def test_an_entry_with_equal_values_keeps_its_text() -> None:
    text = whole({"code": entry()}).replace("cmd: python", "cmd:   python")
    assert updated_text(text, {"code": entry()}) == text


def test_settings_that_are_aliases_of_each_other_are_written_out() -> None:
    from dvc.utils.serialize import parse_yaml

    shared = {"path": "mine"}
    twice = entry(params={"params.yaml": {"a": shared, "b": shared}})
    text = updated_text(updated_text(HEADER, {"one": twice}) or "", {"two": twice})
    assert text is not None
    assert parse_yaml(text, "dvc.lock")["stages"] == {"one": twice, "two": twice}
    assert split_blocks(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        "# mine\n" + HEADER,
        HEADER + "  a:\n    cmd: x # mine\n",
        HEADER + "  a:\n    cmd: x",
        HEADER + "  a: &id001\n    cmd: x\n  b: *id001\n",
    ],
)
def test_a_lock_of_another_shape_is_left_to_dvc(text: str) -> None:
    assert split_blocks(text) is None


def test_dvc_runs_a_stage_with_it_and_finds_nothing_to_do_without_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    run(repo, "python", "-m", "pipeline.executor.dvc_child", "repro", "code", "text_tower")
    text = (repo / "dvc.lock").read_text(encoding="utf-8")
    assert split_blocks(text) is not None
    assert "up to date" in run(repo, "dvc", "repro", "code", "text_tower")
    run(repo, "dvc", "commit", "--force", "code", "text_tower")
    assert (repo / "dvc.lock").read_text(encoding="utf-8") == text
