"""The pipeline from Python: the notebook runs, and the functions and settings are those of the stages."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import small_task
import torch
from nbclient import NotebookClient
from project_root import ROOT
from torch import Tensor

from features.errors import InputError
from features.text.text_tower import TextTower
from pipeline import api
from pipeline.config.params import load


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own
def test_the_notebook_runs_and_is_kept_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [
        output.data["text/plain"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output
    ]
    assert "tip_adapter_f+ship" in shown[1]


def test_the_lines_of_the_page_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code, variables)  # noqa: S102
    assert variables["zero_shot"].logits(variables["classes"].text_features, torch.arange(3)).argmax(1).tolist() == [
        0,
        1,
        2,
    ]


def test_the_api_fits_what_the_stage_fits() -> None:
    settings = small_task.QUICK["coop"]
    ours = api.fit("coop", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER, seed=3, **settings)
    theirs = small_task.fit("coop", seed=3, validation=small_task.NO_VALIDATION)
    assert all(torch.equal(ours.state()[name], value) for name, value in theirs.state().items())
    correct = ours.logits(small_task.TRAIN.centre, torch.arange(4)).argmax(1) == small_task.TRAIN.labels
    accuracy = 100 * correct.double().mean().item()
    assert api.accuracy(ours, small_task.TRAIN, torch.arange(4)) == pytest.approx(accuracy)


def tower_of(encoder: str) -> TextTower:
    tower = copy.deepcopy(small_task.TOWER)
    tower.config = replace(tower.config, encoder=encoder)
    return tower


def context(tower: TextTower, **settings: Any) -> Tensor:
    """Return what CoOp learns in two epochs; it shows the learning rate."""
    fitted = api.fit("coop", small_task.TRAIN, small_task.CLASSES, tower=tower, epochs=2, **settings)
    return fitted.state()["context"]


def test_settings_that_depend_on_the_encoder_are_those_of_params_yaml() -> None:
    shipped = load(ROOT / "params.yaml").methods["coop"]["learning_rate"]
    assert shipped == {"default": None, "liteclip": 0.03}
    liteclip = context(tower_of("liteclip"))
    assert torch.equal(liteclip, context(tower_of("tiny"), learning_rate=0.03))
    assert not torch.equal(liteclip, context(tower_of("tiny")))
    assert torch.equal(context(tower_of("tiny")), context(tower_of("ViT-B-16-quickgelu"), learning_rate=0.002))
    assert torch.equal(context(tower_of("liteclip"), learning_rate=0.002), context(tower_of("tiny")))


def test_a_model_by_open_clips_name_takes_the_values_of_its_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("liteclip: 0.03}", "vit_b16: 0.03}"), encoding="utf-8")
    monkeypatch.setattr(api, "PARAMS", tmp_path / "params.yaml")
    vit_b16 = context(tower_of("ViT-B-16-quickgelu"))
    assert torch.equal(vit_b16, context(tower_of("tiny"), learning_rate=0.03))


def test_without_params_yaml_the_defaults_are_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = context(tower_of("tiny"))
    monkeypatch.setattr(api, "PARAMS", tmp_path / "params.yaml")
    with pytest.warns(UserWarning, match=r"methods\.coop"):
        assert torch.equal(context(tower_of("liteclip")), expected)


def test_a_method_without_the_text_tower_that_it_needs_is_an_error() -> None:
    with pytest.raises(InputError, match="needs_text_tower"):
        api.fit("coop", small_task.TRAIN, small_task.CLASSES)


def test_a_generator_gives_the_unseen_classes_features() -> None:
    synthetic = api.synthesize(
        "ship",
        small_task.TRAIN,
        small_task.CLASSES,
        small_task.TOWER,
        per_class=3,
        epochs=1,
        encoder_width=8,
        generator_width=8,
    )
    assert synthetic.labels.tolist() == [4] * 3 + [5] * 3
    assert synthetic.features.shape == (6, 1, 32)


def test_the_error_of_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InputError, match="epochs"):
        api.fit("coop", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER, epoch=3)


@pytest.mark.parametrize("generator", [None, "ship"])
def test_an_offset_is_chosen_without_images_of_unseen_classes_and_applied(generator: str | None) -> None:
    settings = small_task.QUICK["taskres"]
    data = (small_task.TRAIN, small_task.VALIDATION, small_task.CLASSES)
    classifier = api.fit("taskres", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER, **settings)
    options = {"generator": generator, "per_class": 4, "tower": small_task.TOWER}
    offset = api.choose_offset("taskres", classifier, *data, **options, **settings)
    assert offset == api.choose_offset("taskres", classifier, *data, **options, **settings)

    seen, unseen = small_task.VALIDATION, small_task.SYNTHETIC
    everything = {"classes": small_task.CLASSES}
    assert api.accuracy(classifier, seen, **everything, offset=1e3) == 0.0
    assert api.accuracy(classifier, unseen, **everything, offset=-1e3) == 0.0
    assert api.accuracy(classifier, seen, **everything, offset=0.0) == api.accuracy(classifier, seen)


def test_an_offset_that_cannot_be_known_is_an_error_with_the_reason() -> None:
    zero_shot = api.fit("zero_shot", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER)
    with pytest.raises(InputError, match=r"zero_shot: .*not fitted"):
        api.choose_offset(
            "zero_shot", zero_shot, small_task.TRAIN, small_task.VALIDATION, small_task.CLASSES, tower=small_task.TOWER
        )
    with pytest.raises(InputError, match="classes"):
        api.accuracy(zero_shot, small_task.VALIDATION, offset=1.0)
