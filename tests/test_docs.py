"""What the pages say can be done is done here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from click import ClickException
from pages import (
    PAGES,
    calls,
    example_data_set,
    example_method,
    put_mushrooms,
    with_example_data_set,
    with_example_method,
)
from typer.main import get_command

import features.datasets
import pipeline.methods
from features.index import mistakes
from features.lookup import find
from pipeline.cli.app import app
from pipeline.cli.check import check
from pipeline.cli.data_list import details, reader_of
from pipeline.config import params
from pipeline.methods.base import Method
from pipeline.training.data import ClassSet, LabelledFeatures

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_the_example_method_is_short_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(example_method().splitlines()) <= 60
    (tmp_path / "class_means.py").write_text(example_method(), encoding="utf-8")
    monkeypatch.setattr(pipeline.methods, "__path__", [*pipeline.methods.__path__, str(tmp_path)])

    method = find(pipeline.methods, "class_means", Method)(mix=1.0)
    axes = torch.eye(4)
    classes = ClassSet(
        names=("a", "b", "c"),
        seen=torch.tensor([True, True, False]),
        text_features=axes[:3],
        tokens=torch.zeros(3, 4, dtype=torch.int64),
        logit_scale=10.0,
    )
    images = LabelledFeatures(torch.stack([axes[3], axes[1]])[:, None], torch.tensor([0, 1]))
    none = LabelledFeatures(torch.zeros(0, 1, 4), torch.zeros(0, dtype=torch.int64))
    fitted = method.fit(images, classes, synthetic=None, validation=none, tower=None, rng=torch.Generator())
    logits = fitted.logits(axes, torch.arange(3))
    # Class 0 stands where its image is and no longer where its name is; class 2 has only its name.
    assert torch.equal(logits, torch.tensor([[0.0, 0, 0], [0, 10, 0], [0, 0, 10], [10, 0, 0]]))


def test_the_example_methods_parameters_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "class_means.py").write_text(example_method(), encoding="utf-8")
    monkeypatch.setattr(pipeline.methods, "__path__", [*pipeline.methods.__path__, str(tmp_path)])
    found = params.parse_text(with_example_method(params.read(ROOT / "params.yaml")))
    assert "class_means" in found.grid.methods
    check(found)


def test_the_example_data_set_is_read_checked_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/add_a_dataset.md"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 80
    (tmp_path / "mushrooms.py").write_text(example_data_set(), encoding="utf-8")
    monkeypatch.setattr(features.datasets, "__path__", [*features.datasets.__path__, str(tmp_path)])
    text = with_example_data_set(params.read(ROOT / "params.yaml"))
    assert "Nobody: An example, 2024" in details(params.parse_text(text), "mushrooms")

    for image in put_mushrooms(tmp_path):
        image.write_bytes(image.name.encode())
    reader = reader_of(params.parse_text(text), "mushrooms")
    listing = reader.read(tmp_path)
    assert listing.classes == ("cep", "death cap", "fly agaric")
    assert list(mistakes(listing)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_pages_name_exist(page: Path) -> None:
    shipped = params.load(ROOT / "params.yaml").model_dump()
    for key in re.findall(r"(?:-S|--set) '?([a-z_.0-9]+)=", page.read_text(encoding="utf-8")):
        block = shipped
        for part in key.split("."):
            assert part in block, f"{page.name} sets {key}, which params.yaml does not have"
            block = block[part]


def test_shipyard_understands_every_command_of_the_pages() -> None:
    assert len(calls("shipyard")) > 20
    for page, words in calls("shipyard"):
        leaf = get_command(app)
        while words and words[0] in getattr(leaf, "commands", ()):
            leaf = leaf.commands[words.pop(0)]  # type: ignore[attr-defined]
        try:
            leaf.make_context("shipyard", words)  # parses, and runs nothing
        except ClickException as error:
            pytest.fail(f"{page}: {words}: {error.format_message()}")


def test_dvc_understands_every_command_of_the_pages() -> None:
    from dvc.cli import parse_args

    assert len(calls("dvc")) > 20
    for _, words in calls("dvc"):
        parse_args(words)


def test_make_targets_in_pages_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake\s([a-z]+)\b`", page.read_text(encoding="utf-8"))}
    assert named
    assert named <= made
