"""Class texts of other programs: zero-shot and every method without learned prompts run with them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from project_root import ROOT
from safetensors.torch import save_file
from small_repo import PARAMS, stage, write_params
from torch.nn import functional as F
from typer.testing import CliRunner

from features.datasets.base import Origin
from features.errors import InputError
from features.exchange.import_texts import read_class_texts
from features.exchange.rows import ImportRequest
from features.index import ClassNames
from features.text.classes import ClassTexts
from features.text.tower_file import load_tower
from pipeline.cli.app import app
from pipeline.cli.check import check
from pipeline.cli.import_features import import_dataset
from pipeline.config.params import load
from pipeline.report.build import read_grid

REAL = ROOT.parent / "shared/data/clip-vit-b32"
CLASSES = ("cat", "sea horse", "kite", "drum")
NAMES = ClassNames(CLASSES, ("a photo of a {}.",), Origin("x", "x", "x", "x"), 0, {})
TEXTS = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
GIVEN = ["drum", "owl", "cat", "kite", "sea horse"]  # another order, and one class more
METHODS = ["zero_shot", "linear_probe", "clip_adapter", "tip_adapter", "taskres", "clap"]


def read(source: Path, classes: Path | None = None) -> ClassTexts:
    return read_class_texts(source, classes, NAMES, logit_scale=50.0, encoder="api", weights_sha256="0" * 64)


def save(file: Path) -> Path | None:
    """Write the texts in the format of the suffix; return the file of names, if it needs one."""
    names = np.array(GIVEN)
    if file.suffix == ".npz":
        np.savez(file, features=TEXTS, labels=names)
        return None
    if file.suffix == ".npy":
        np.save(file, TEXTS)
    elif file.suffix == ".pt":
        torch.save(torch.from_numpy(TEXTS), file)
    else:
        save_file({"features": torch.from_numpy(TEXTS)}, file)
    (file.parent / "names.txt").write_text("\n".join(GIVEN), encoding="utf-8")
    return file.parent / "names.txt"


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".safetensors"])
def test_each_class_gets_the_feature_of_its_name(suffix: str, tmp_path: Path) -> None:
    texts = read(tmp_path / f"texts{suffix}", save(tmp_path / f"texts{suffix}"))
    assert texts.names == CLASSES
    np.testing.assert_array_equal(texts.text_features[0], TEXTS[[2, 4, 3, 0]])
    np.testing.assert_allclose(texts.text_norms(), np.linalg.norm(TEXTS[[2, 4, 3, 0]], axis=1), rtol=1e-6)
    assert texts.tokens.shape == (4, 0)
    assert texts.logit_scale == 50


def test_every_class_that_is_missing_repeated_or_broken_is_named(tmp_path: Path) -> None:
    values = TEXTS.copy()
    values[0], values[2] = 0, np.nan
    np.savez(tmp_path / "x.npz", features=values, labels=np.array(["drum", "drum", "cat", "kites", "seahorse"]))
    with pytest.raises(InputError) as caught:
        read(tmp_path / "x.npz")
    message = str(caught.value)
    assert all(repr(name) in message for name in ("drum", "cat", "kite", "sea horse"))
    np.save(tmp_path / "x.npy", TEXTS)
    with pytest.raises(InputError, match="--classes"):
        read(tmp_path / "x.npy")
    (tmp_path / "names.txt").write_text("cat\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"5, 8.* 1 "):
        read(tmp_path / "x.npy", tmp_path / "names.txt")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with imported features of four classes, around the text features of their names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    grid = {"encoder": "api", "datasets": ["lab"], "methods": METHODS, "generators": [], "synthetic_methods": []}
    write_params(
        tmp_path,
        {
            **PARAMS,
            "grid": {**PARAMS["grid"], **grid},
            "encoders": {"api": {"model": "imported"}},
            "data": {"root": "data", "sets": {"lab": {"reader": "imported"}}},
            "methods": {
                **PARAMS["methods"],
                "linear_probe": {},
                **{name: {"epochs": 1} for name in ("clip_adapter", "taskres", "clap")},
            },
        },
    )
    order = [GIVEN.index(name) for name in np.repeat(CLASSES, 6)]
    features = TEXTS[order] + 0.1 * np.random.default_rng(1).normal(size=(24, 8))
    splits = np.tile(["train", "train", "train", "val", "test", "test"], 4)
    np.savez("lab.npz", features=features.astype(np.float16), labels=np.repeat(CLASSES, 6), splits=splits)
    import_dataset(
        ImportRequest(source=Path("lab.npz"), dataset="lab", encoder="api", weights_sha256="a" * 64, classes=None)
    )
    return tmp_path


def test_methods_without_learned_prompts_run_with_imported_texts(project: Path) -> None:
    save(project / "texts.npz")
    result = CliRunner().invoke(app, ["features", "import-texts", "lab", "texts.npz"], catch_exceptions=False)
    assert "dvc commit --force text_tower classes@lab" in result.output
    check(load())
    stage("text_tower")
    cell = {"dataset": "lab", "task": "base_to_new"}
    stage("build_task", **cell)
    for method in METHODS:
        stage("fit", **cell, method=method)
        stage("evaluate", **cell, method=method)
        stage("validate", **cell, method=method)
    scores = {run.run: run for run in read_grid(load())}
    assert {*scores} == {*METHODS}
    assert scores["zero_shot"].seeds[0].harmonic_mean == 100
    assert scores["zero_shot"].encoder.weights_sha256 == "a" * 64
    with pytest.raises(InputError, match="api"):
        load_tower(Path("artifacts/api/text_tower.safetensors"))


def test_features_of_another_data_set_can_be_imported_after_the_texts(project: Path) -> None:
    save(project / "texts.npz")
    CliRunner().invoke(app, ["features", "import-texts", "lab", "texts.npz"], catch_exceptions=False)
    request = ImportRequest(
        source=Path("lab.npz"), dataset="lab2", encoder="api", weights_sha256="a" * 64, classes=None
    )
    import_dataset(request)
    assert Path("artifacts/api/features/lab2.zarr/meta.json").exists()
    with pytest.raises(InputError, match="--weights-sha256: missing"):
        import_dataset(replace(request, dataset="lab3", weights_sha256=None))


def test_imported_texts_do_not_replace_the_file_that_they_are_read_from(project: Path) -> None:
    out = Path("artifacts/api/classes/lab.h5")
    out.parent.mkdir(parents=True)
    with h5py.File(out, "w") as file:
        file["features"], file["labels"] = TEXTS.astype(np.float32), GIVEN
    before = out.read_bytes()
    (project / "link.h5").symlink_to(out.absolute())
    for source in (str(out), "link.h5"):
        result = CliRunner().invoke(app, ["features", "import-texts", "lab", source])
        assert isinstance(result.exception, InputError)
        assert source in str(result.exception)
        assert out.read_bytes() == before


def test_methods_that_learn_prompts_are_refused_before_a_run(project: Path) -> None:
    params = load()
    grid = params.grid.model_copy(update={"methods": ["zero_shot", "coop"], "generators": ["ship"]})
    with pytest.raises(InputError) as caught:
        check(params.model_copy(update={"grid": grid}))
    assert "coop" in str(caught.value)
    assert "ship" in str(caught.value)


def test_texts_of_another_dimension_or_for_an_encoder_with_a_tower_are_refused(project: Path) -> None:
    np.savez("wide.npz", features=np.ones((5, 9), np.float32), labels=np.array(GIVEN))
    result = CliRunner().invoke(app, ["features", "import-texts", "lab", "wide.npz"])
    assert isinstance(result.exception, InputError)
    assert "9" in str(result.exception)
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("model: imported", "model: RN50"), encoding="utf-8")
    result = CliRunner().invoke(app, ["features", "import-texts", "lab", "wide.npz"])
    assert isinstance(result.exception, InputError)
    assert "RN50" in str(result.exception)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the features of OpenAI's ViT-B/32 of shared/data")
def test_real_features_have_the_zero_shot_accuracy_that_is_known(tmp_path: Path) -> None:
    with (REAL / "text_features/caltech101_51_names.txt").open(encoding="utf-8") as file:
        rows = [(int(label), name) for label, name in csv.reader(file)]
    (tmp_path / "names.txt").write_text("\n".join(name for _, name in rows), encoding="utf-8")
    names = ClassNames(tuple(name for _, name in rows), ("a {}",), NAMES.origin, 0, {})
    source = REAL / "text_features/caltech101_51.npy"
    texts = read_class_texts(
        source, tmp_path / "names.txt", names, logit_scale=100.0, encoder="vit_b32", weights_sha256="0" * 64
    )
    features = torch.load(REAL / "caches/caltech101/test_f.pt", "cpu", weights_only=True).float()
    labels = torch.load(REAL / "caches/caltech101/test_l.pt", "cpu", weights_only=True)
    ids = torch.tensor([label for label, _ in rows])
    among = torch.isin(labels, ids)
    predicted = ids[(F.normalize(features[among], dim=-1) @ torch.from_numpy(texts.zero_shot_weights()).T).argmax(1)]
    accuracy = 100 * (predicted == labels[among]).double().mean()
    assert int(among.sum()) == 1448
    assert round(float(accuracy), 2) == 96.34
