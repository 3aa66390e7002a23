"""`params.yaml`: every invalid value is reported with its key, and all mistakes of one kind are reported together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT
from ruamel.yaml import YAML

from features.errors import InputError
from pipeline.config import params

REMOVE = object()

TINY = """
grid:
  {encoder: e, datasets: [d], tasks: [t], methods: [m], generators: [g], synthetic_methods: [m], seeds: [1], select: [],
   balance: true}
encoders: {e: {model: RN50}}
compute: {device: cpu, batch: 2, workers: 0, verify: false}
data: {root: data, sets: {d: {reader: r}}}
extract: {precision: float32, views: 1, view_scale: [0.5, 1.0], view_seed: 0, on_bad_image: fail, engine: local}
text_tower: {precision: float32}
tasks: {t: {protocol: p}}
generators: {g: {}}
synthesis: {per_class: 2}
visualization: {methods: [pca], classes: 2, per_class: 2}
methods: {m: {}}
"""


def changed(key: str, value: Any) -> str:
    """Return TINY with the value of one dotted key changed or removed."""
    values = YAML(typ="safe", pure=True).load(TINY)
    *path, last = key.split(".")
    block = values
    for part in path:
        block = block[part]
    if value is REMOVE:
        del block[last]
    else:
        block[last] = value
    return json.dumps(values).replace("NaN", ".nan").replace("Infinity", ".inf")  # as YAML spells them


BAD = [
    # unknown keys, with the nearest known one
    ("grid.method", ["m"], ["method:", "'methods'"]),
    ("grid.seed", [1], ["seed:", "'seeds'"]),
    ("gird", {}, ["gird:", "'grid'"]),
    ("extract.view", 3, ["extract.view:", "'views'"]),
    ("compute.gpu", True, ["compute.gpu:", "batch, cell_cpus, cell_gpus, device, shards, verify, workers"]),
    ("encoders.e.pretraind", "openai", ["encoders.e.pretraind:", "'pretrained'"]),
    ("text_tower.precision", "float16", ["text_tower.precision:", "'float16'"]),
    ("synthesis.perclass", 3, ["synthesis.perclass:", "'per_class'"]),
    # missing
    ("methods", REMOVE, ["methods:"]),
    ("grid.encoder", REMOVE, ["grid.encoder:"]),
    ("encoders.e.model", REMOVE, ["encoders.e.model:"]),
    ("data.sets", REMOVE, ["data.sets:"]),
    # wrong types, none of them converted
    ("compute.batch", "64", ["compute.batch:", "'64'"]),
    ("compute.batch", 1.0, ["compute.batch:", "1.0"]),
    ("compute.batch", True, ["compute.batch:", "True"]),
    ("compute.workers", None, ["compute.workers:", "None"]),
    ("grid.datasets", "d", ["grid.datasets:", "'d'"]),
    ("grid.seeds", ["1"], ["grid.seeds.0:", "'1'"]),
    ("grid.seeds", [1.5], ["grid.seeds.0:", "1.5"]),
    ("data.root", 3, ["data.root:", "3"]),
    ("tasks.t", "base_to_new", ["tasks.t:", "'base_to_new'"]),
    ("methods.m", 3, ["methods.m:", "3"]),
    ("encoders", [], ["encoders:", "[]"]),
    ("grid", None, ["grid:", "None"]),
    # out of range
    ("compute.batch", 0, ["compute.batch:", "0"]),
    ("compute.workers", -1, ["compute.workers:", "-1"]),
    ("compute.device", "gpu", ["compute.device:", "'gpu'", "'auto', 'cpu' or 'cuda'"]),
    ("extract.precision", "fp16", ["extract.precision:", "'fp16'", "'float32', 'bfloat16' or 'float16'"]),
    ("extract.views", -1, ["extract.views:", "-1"]),
    ("extract.view_scale", [0.5], ["extract.view_scale:", "[0.5]"]),
    ("extract.view_scale", [0.0, 1.0], ["extract.view_scale.0:", "0.0"]),
    ("extract.view_scale", [1.0, 0.5], ["extract.view_scale:", "[1.0, 0.5]"]),
    ("extract.on_bad_image", "ignore", ["extract.on_bad_image:", "'ignore'", "'fail' or 'skip'"]),
    ("extract.engine", "dask", ["extract.engine:", "'dask'", "'local' or 'ray'"]),
    ("extract.on_bad_images", "skip", ["extract.on_bad_images:", "'on_bad_image'"]),
    ("compute.verify", 1, ["compute.verify:", "1"]),
    ("compute.shards", "bucket/prefix", ["compute.shards:", "'bucket/prefix'"]),
    ("extract.patch_tokens", "yes", ["extract.patch_tokens:", "'yes'"]),
    ("extract.view_seed", -1, ["extract.view_seed:", "-1"]),
    ("extract.view_seed", 0.0, ["extract.view_seed:", "0.0"]),
    ("extract.view_scale", [0.5, 1.5], ["extract.view_scale.1:", "1.5"]),
    ("extract.view_scale", [float("nan"), 1.0], ["extract.view_scale.0:", "nan"]),
    ("extract.view_scale", [0.5, float("inf")], ["extract.view_scale.1:", "inf"]),
    ("grid.seeds", [-1], ["grid.seeds.0:", "-1"]),
    ("grid.seeds", [2**31], ["grid.seeds.0:", "2147483648"]),
    ("grid.seeds", [], ["grid.seeds:", "[]"]),
    ("grid.datasets", [], ["grid.datasets:", "[]"]),
    ("synthesis.per_class", 0, ["synthesis.per_class:", "0"]),
    # names that would be paths outside their folder, or break DVC's matrix
    ("grid.datasets", ["../d"], ["grid.datasets.0:", "'../d'"]),
    ("grid.methods", ["m+g"], ["grid.methods.0:", "'m+g'"]),
    ("grid.tasks", [""], ["grid.tasks.0:", "''"]),
    ("grid.encoder", "e\n", ["grid.encoder:", "'e\\n'"]),
    # in the grid, but not defined
    ("grid.encoder", "vit", ["grid.encoder:", "'vit'", "`encoders`", "e"]),
    ("grid.datasets", ["dd"], ["grid.datasets:", "'dd'", "`data.sets`", "'d'"]),
    ("grid.tasks", ["tt"], ["grid.tasks:", "'tt'", "`tasks`", "'t'"]),
    ("grid.methods", ["mm"], ["grid.methods:", "'mm'", "`methods`", "'m'"]),
    ("grid.synthetic_methods", ["mm"], ["grid.synthetic_methods:", "'mm'", "`methods`"]),
    ("grid.generators", ["gg"], ["grid.generators:", "'gg'", "`generators`"]),
    # listed twice
    ("grid.datasets", ["d", "d"], ["grid.datasets:", "'d'"]),
    ("grid.methods", ["m", "m"], ["grid.methods:", "'m'"]),
    ("grid.seeds", [1, 2, 1], ["grid.seeds:", "1"]),
]


def test_the_tiny_file_is_valid() -> None:
    tiny = params.parse_text(TINY)
    assert tiny.encoder.model == "RN50"
    assert tiny.artifacts == Path("artifacts/e")


IDS = [f"no {key}" if value is REMOVE else f"{key}={value}"[:50] for key, value, _ in BAD]


@pytest.mark.parametrize(("key", "value", "parts"), BAD, ids=IDS)
def test_an_invalid_value_is_reported_with_its_key_and_the_allowed_values(
    key: str, value: Any, parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        params.parse_text(changed(key, value))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []
    assert message.startswith("params.yaml")


def test_at_least_sixty_kinds_of_invalid_values_are_tested() -> None:
    assert len(set(IDS)) >= 60


def test_all_invalid_values_are_reported_together() -> None:
    text = TINY.replace("batch: 2", "batch: 0").replace("views: 1", "view: 1").replace("seeds: [1]", "seeds: [x]")
    with pytest.raises(InputError) as caught:
        params.parse_text(text)
    for part in ("4 problems", "compute.batch", "extract.view:", "extract.views:", "grid.seeds.0"):
        assert part in str(caught.value)


def test_all_undefined_names_are_reported_together() -> None:
    text = TINY.replace("datasets: [d]", "datasets: [x, y]").replace("tasks: [t]", "tasks: [z, z]")
    with pytest.raises(InputError, match="5 problems") as caught:
        params.parse_text(text)
    for name in ("'x'", "'y'", "'z'"):
        assert name in str(caught.value)


def test_a_value_for_a_name_that_is_not_listed_is_a_mistake_only_if_it_resembles_a_listed_one() -> None:
    text = TINY.replace("sets: {d: {reader: r}}", "sets: {d: {reader: r}, mybirds: {reader: r}}")
    of_unlisted = "methods: {m: {epochs: {default: 50, imagenet: 10, e: 5, another: 1}}}"
    assert params.parse_text(text.replace("methods: {m: {}}", of_unlisted)).block("methods", "m", "imagenet")[0]
    of_misspelled = "methods: {m: {epochs: {default: 50, imagenett: 10, my_birds: 5}}}"
    with pytest.raises(InputError, match="2 problems") as caught:
        params.parse_text(text.replace("methods: {m: {}}", of_misspelled))
    for part in ("methods.m.epochs", "'imagenett'", "'imagenet'", "'my_birds'", "'mybirds'"):
        assert part in str(caught.value)


def test_the_shipped_file_stays_valid_without_a_data_set() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines(keepends=True) if line.startswith("    imagenet: "))
    assert "imagenet" not in params.parse_text(text.replace(line, "")).data.sets


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("grid: [", "YAML"),
        ("encoders: {e: {model: RN50, pretrained: random:0}}", "quote"),
        ("grid: {}\ngrid: {}\n", 'duplicate key "grid"'),
        ("\x00", "YAML"),
        ("", "None"),
        ("- grid", "['grid']"),
        ("a word", "'a word'"),
    ],
)
def test_text_that_is_not_a_params_file_is_an_error(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        params.parse_text(text)
    assert part in str(caught.value)
    assert "suppress" not in str(caught.value)


def test_numbers_are_parsed_as_dvc_parses_them() -> None:
    from dvc.utils.serialize import loads_yaml

    text = TINY.replace("methods: {m: {}}", "methods: {m: {rate: 1e-3, word: on, octal: 010, sign: +.5, no: ~}}")
    assert params.parse_text(text).methods == loads_yaml(text)["methods"]
    assert params.parse_text(text).methods["m"]["rate"] == 0.001

    text = "%YAML 1.1\n---\n" + TINY.replace("methods: {m: {}}", "methods: {m: {word: on, octal: 010}}")
    assert params.parse_text(text).methods == loads_yaml(text)["methods"]


def old_params(tmp_path: Path) -> Path:
    """Write the params file of a project that an older version made, with every name that has changed since."""
    text = (
        TINY.replace("select: []", "choose: [t]")
        .replace("visualization: {", "projection: {")
        .replace("tasks: [t]", "tasks: [t, t_rehearsal]")
        .replace("tasks: {t: {protocol: p}}", "tasks: {t: {protocol: p}, t_rehearsal: {protocol: rehearsal}}")
    )
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


RENAMED = [
    ("grid.choose", "grid.select"),
    ("projection", "visualization"),
    ("tasks.t_rehearsal", "remove"),
    ("grid.tasks", "remove t_rehearsal"),
]


def test_all_names_of_an_older_version_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 problems") as caught:
        params.load(old_params(tmp_path))
    lines = str(caught.value).splitlines()
    for old, new in RENAMED:
        assert any(old in line and new in line for line in lines), (old, new)


@pytest.mark.parametrize(
    "command",
    [
        ["pipeline", "check"],
        ["pipeline", "doctor"],
        ["pipeline", "run"],
        ["pipeline", "run", "d"],
        ["pipeline", "run", "--set", "grid.select=[t]"],
        ["stages.index", "--dataset", "d"],
        ["stages.select", "--dataset", "d", "--task", "t"],
        ["stages.report"],
    ],
    ids=" ".join,
)
def test_every_program_reports_the_names_of_an_older_version(command: list[str], tmp_path: Path) -> None:
    old_params(tmp_path)
    module, *arguments = command
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = process.stdout + process.stderr
    assert process.returncode == 1
    assert "Traceback" not in output
    for old, new in RENAMED:
        assert old in output
        assert new in output


def test_a_task_is_only_removed_for_its_protocol(tmp_path: Path) -> None:
    text = TINY.replace("tasks: {t: {protocol: p}}", "tasks: {t: {protocol: p}, t_proxy: {protocol: p}}")
    assert "t_proxy" in params.parse_text(text).tasks
    with pytest.raises(InputError, match=r"tasks\.t_proxy"):
        params.parse_text(text.replace("t_proxy: {protocol: p}", "t_proxy: {protocol: validation_proxy}"))


def test_a_missing_file_is_reported_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"params\.yaml") as caught:
        params.load()
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        params.load(tmp_path / "params.yaml")


def test_the_shipped_file_is_valid() -> None:
    assert params.load(ROOT / "params.yaml").grid.seeds
