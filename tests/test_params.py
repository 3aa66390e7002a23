"""`params.yaml`: what is refused, in which words, and that every mistake of one kind is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from features.errors import InputError
from pipeline.config import params

ROOT = Path(__file__).resolve().parent.parent
REMOVE = object()

TINY = """
grid:
  {encoder: e, datasets: [d], tasks: [t], methods: [m], generators: [g], synthetic_methods: [m], seeds: [1], choose: []}
encoders: {e: {model: RN50}}
compute: {device: cpu, batch: 2, workers: 0, verify: false}
data: {root: data, sets: {d: {reader: r}}}
extract: {precision: float32, views: 1, view_scale: [0.5, 1.0], view_seed: 0, on_bad_image: fail, engine: local}
text_tower: {precision: float32}
tasks: {t: {protocol: p}}
generators: {g: {}}
synthesis: {per_class: 2}
projection: {methods: [pca], classes: 2, per_class: 2}
methods: {m: {}}
"""


def changed(key: str, value: Any) -> str:
    """TINY with the value of one dotted key changed or removed."""
    values = YAML(typ="safe", pure=True).load(TINY)
    *path, last = key.split(".")
    block = values
    for part in path:
        block = block[part]
    if value is REMOVE:
        del block[last]
    else:
        block[last] = value
    return json.dumps(values).replace("NaN", ".nan").replace("Infinity", ".inf")  # which YAML reads


BAD = [
    # unknown keys, with the nearest known one
    ("grid.method", ["m"], "method: unknown key; did you mean 'methods'?"),
    ("grid.seed", [1], "seed: unknown key; did you mean 'seeds'?"),
    ("gird", {}, "gird: unknown key; did you mean 'grid'?"),
    ("extract.view", 3, "extract.view: unknown key; did you mean 'views'?"),
    ("compute.gpu", True, "compute.gpu: unknown key; known: batch, device, shards, verify, workers"),
    ("encoders.e.pretraind", "openai", "encoders.e.pretraind: unknown key; did you mean 'pretrained'?"),
    ("text_tower.precision", "float16", "text_tower.precision: 'float16' cannot be used"),
    ("synthesis.perclass", 3, "synthesis.perclass: unknown key; did you mean 'per_class'?"),
    # missing
    ("methods", REMOVE, "methods: missing"),
    ("grid.encoder", REMOVE, "grid.encoder: missing"),
    ("encoders.e.model", REMOVE, "encoders.e.model: missing"),
    ("data.sets", REMOVE, "data.sets: missing"),
    # wrong types, none of them converted
    ("compute.batch", "64", "compute.batch: '64' cannot be used"),
    ("compute.batch", 1.0, "compute.batch: 1.0 cannot be used"),
    ("compute.batch", True, "compute.batch: True cannot be used"),
    ("compute.workers", None, "compute.workers: None cannot be used"),
    ("grid.datasets", "d", "grid.datasets: 'd' cannot be used"),
    ("grid.seeds", ["1"], "grid.seeds.0: '1' cannot be used"),
    ("grid.seeds", [1.5], "grid.seeds.0: 1.5 cannot be used"),
    ("data.root", 3, "data.root: 3 cannot be used"),
    ("tasks.t", "base_to_new", "tasks.t: 'base_to_new' cannot be used"),
    ("methods.m", 3, "methods.m: 3 cannot be used"),
    ("encoders", [], "encoders: [] cannot be used"),
    ("grid", None, "grid: None cannot be used"),
    # out of range
    ("compute.batch", 0, "compute.batch: 0 cannot be used"),
    ("compute.workers", -1, "compute.workers: -1 cannot be used"),
    ("compute.device", "gpu", "compute.device: 'gpu' cannot be used: Input should be 'auto', 'cpu' or 'cuda'"),
    ("extract.precision", "fp16", "Input should be 'float32', 'bfloat16' or 'float16'"),
    ("extract.views", -1, "extract.views: -1 cannot be used"),
    ("extract.view_scale", [0.5], "extract.view_scale: [0.5] cannot be used"),
    ("extract.view_scale", [0.0, 1.0], "extract.view_scale.0: 0.0 cannot be used"),
    ("extract.view_scale", [1.0, 0.5], "[1.0, 0.5] cannot be used: Value error, the least share comes first"),
    (
        "extract.on_bad_image",
        "ignore",
        "extract.on_bad_image: 'ignore' cannot be used: Input should be 'fail' or 'skip'",
    ),
    ("extract.engine", "dask", "extract.engine: 'dask' cannot be used: Input should be 'local' or 'ray'"),
    ("extract.on_bad_images", "skip", "extract.on_bad_images: unknown key; did you mean 'on_bad_image'?"),
    ("compute.verify", 1, "compute.verify: 1 cannot be used"),
    ("compute.shards", "bucket/prefix", "compute.shards: 'bucket/prefix' cannot be used"),
    ("extract.patch_tokens", "yes", "extract.patch_tokens: 'yes' cannot be used"),
    ("extract.view_seed", -1, "extract.view_seed: -1 cannot be used"),
    ("extract.view_seed", 0.0, "extract.view_seed: 0.0 cannot be used"),
    ("extract.view_scale", [0.5, 1.5], "extract.view_scale.1: 1.5 cannot be used"),
    ("extract.view_scale", [float("nan"), 1.0], "extract.view_scale.0: nan cannot be used"),
    ("extract.view_scale", [0.5, float("inf")], "extract.view_scale.1: inf cannot be used"),
    ("grid.seeds", [-1], "grid.seeds.0: -1 cannot be used"),
    ("grid.seeds", [2**31], "grid.seeds.0: 2147483648 cannot be used"),
    ("grid.seeds", [], "grid.seeds: [] cannot be used"),
    ("grid.datasets", [], "grid.datasets: [] cannot be used"),
    ("synthesis.per_class", 0, "synthesis.per_class: 0 cannot be used"),
    # names that would leave their folder or break the matrix
    ("grid.datasets", ["../d"], "grid.datasets.0: '../d' cannot be used"),
    ("grid.methods", ["m+g"], "grid.methods.0: 'm+g' cannot be used"),
    ("grid.tasks", [""], "grid.tasks.0: '' cannot be used"),
    ("grid.encoder", "e\n", "grid.encoder: 'e\\n' cannot be used"),
    # named in the grid, defined nowhere
    ("grid.encoder", "vit", "grid.encoder: 'vit' is not in `encoders`; known: e"),
    ("grid.datasets", ["dd"], "grid.datasets: 'dd' is not in `data.sets`; did you mean 'd'?"),
    ("grid.tasks", ["tt"], "grid.tasks: 'tt' is not in `tasks`; did you mean 't'?"),
    ("grid.methods", ["mm"], "grid.methods: 'mm' is not in `methods`; did you mean 'm'?"),
    ("grid.synthetic_methods", ["mm"], "grid.synthetic_methods: 'mm' is not in `methods`"),
    ("grid.generators", ["gg"], "grid.generators: 'gg' is not in `generators`"),
    # twice
    ("grid.datasets", ["d", "d"], "grid.datasets: 'd' stands twice"),
    ("grid.methods", ["m", "m"], "grid.methods: 'm' stands twice"),
    ("grid.seeds", [1, 2, 1], "grid.seeds: 1 stands twice"),
]


def test_the_tiny_file_is_right() -> None:
    read = params.parse_text(TINY)
    assert read.encoder.model == "RN50"
    assert read.artifacts == Path("artifacts/e")


IDS = [f"no {key}" if value is REMOVE else f"{key}={value}"[:50] for key, value, _ in BAD]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=IDS)
def test_bad_value_is_named_with_the_rule(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        params.parse_text(changed(key, value))
    assert message in str(caught.value)
    assert str(caught.value).startswith("params.yaml")


def test_there_are_sixty_kinds_of_bad_values() -> None:
    assert len(set(IDS)) >= 60


def test_all_mistakes_at_once() -> None:
    text = TINY.replace("batch: 2", "batch: 0").replace("views: 1", "view: 1").replace("seeds: [1]", "seeds: [x]")
    with pytest.raises(InputError) as caught:
        params.parse_text(text)
    for part in ("4 problems", "compute.batch", "extract.view:", "extract.views: missing", "grid.seeds.0"):
        assert part in str(caught.value)


def test_all_dangling_names_at_once() -> None:
    text = TINY.replace("datasets: [d]", "datasets: [x, y]").replace("tasks: [t]", "tasks: [z, z]")
    with pytest.raises(InputError, match="5 problems") as caught:
        params.parse_text(text)
    for name in ("'x' is not", "'y' is not", "'z' is not", "'z' stands twice"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: [", "params.yaml is not YAML"),
        ("grid: {}\ngrid: {}\n", 'duplicate key "grid"'),
        ("\x00", "params.yaml is not YAML"),
        ("", "cannot be used"),
        ("- grid", "cannot be used"),
        ("a word", "cannot be used"),
    ],
)
def test_text_that_is_no_params_file(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        params.parse_text(text)
    assert message in str(caught.value)
    assert "suppress" not in str(caught.value)


def test_numbers_are_read_as_dvc_reads_them() -> None:
    from dvc.utils.serialize import loads_yaml

    text = TINY.replace("methods: {m: {}}", "methods: {m: {rate: 1e-3, word: on, octal: 010, sign: +.5, no: ~}}")
    assert params.parse_text(text).methods == loads_yaml(text)["methods"]
    assert params.parse_text(text).methods["m"]["rate"] == 0.001


def test_missing_file_says_where_to_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="run from the root of the project"):
        params.load()


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        params.load(tmp_path / "params.yaml")


def test_shipped_file_is_right() -> None:
    assert params.load(ROOT / "params.yaml").grid.seeds
