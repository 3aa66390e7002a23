"""What the pages say can be done is done here."""

from __future__ import annotations

import re
import shlex
from itertools import dropwhile
from pathlib import Path

import pytest
import torch
from click import ClickException
from layouts import touch
from typer.main import get_command

import features.datasets
import pipeline.methods
from features.index import mistakes
from features.lookup import find
from pipeline import params
from pipeline.check import check
from pipeline.cli import app
from pipeline.data_list import details, reader_of
from pipeline.learning.arrays import ClassSet, LabelledFeatures
from pipeline.methods.base import Method

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_the_example_method_is_short_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/add_a_method.md"
    (code,) = blocks(page, "python")
    assert len(code.splitlines()) <= 60
    (tmp_path / "class_means.py").write_text(code, encoding="utf-8")
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
    page = ROOT / "docs/add_a_method.md"
    (tmp_path / "class_means.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    monkeypatch.setattr(pipeline.methods, "__path__", [*pipeline.methods.__path__, str(tmp_path)])
    (added,) = blocks(page, "yaml")
    grid, block = re.findall(r"^  methods: \[.*?\]|^  class_means:.*", added, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^  methods: \[.*?\]", grid, params.read(ROOT / "params.yaml"), count=1, flags=re.MULTILINE)
    found = params.parse_text(text.replace("\nmethods:\n", f"\nmethods:\n{block}\n"))
    assert "class_means" in found.grid.methods
    check(found)


def test_the_example_data_set_is_read_checked_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/add_a_dataset.md"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 80
    (code,), (added,) = blocks(page, "python"), blocks(page, "yaml")
    (tmp_path / "mushrooms.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(features.datasets, "__path__", [*features.datasets.__path__, str(tmp_path)])
    line = re.findall(r"^    mushrooms:.*\n", added, re.MULTILINE)[0]
    text = params.read(ROOT / "params.yaml").replace("\n  sets:", f"\n  sets:\n{line.rstrip()}", 1)
    assert "Nobody: An example, 2024" in details(params.parse_text(text), "mushrooms")

    names = {"train": ["fly agaric", "cep", "death cap"], "val": ["cep"], "test": ["cep", "death cap", "fly agaric"]}
    for split, found in names.items():
        lines = [f"{split}_{i}.jpg\t{name}" for i, name in enumerate(found)]
        touch(tmp_path / "mushrooms/images", [row.partition("\t")[0] for row in lines])
        (tmp_path / f"mushrooms/{split}.txt").write_text("\n".join(lines))
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


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Every call of a program in the pages' shell blocks: the page, and the words behind the program's name."""
    found = []
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            words = [*dropwhile(lambda word: "=" in word, shlex.split(line, comments=True))]  # X=1 before a command
            if words and Path(words[0]).name == program:
                found.append((page.name, words[1:]))
    return found


def test_shipyard_understands_every_command_of_the_pages() -> None:
    assert len(commands("shipyard")) > 20
    for page, words in commands("shipyard"):
        leaf = get_command(app)
        while words and words[0] in getattr(leaf, "commands", ()):
            leaf = leaf.commands[words.pop(0)]  # type: ignore[attr-defined]
        try:
            leaf.make_context("shipyard", words)  # parses, and runs nothing
        except ClickException as error:
            pytest.fail(f"{page}: {words}: {error.format_message()}")


def test_dvc_understands_every_command_of_the_pages() -> None:
    from dvc.cli import parse_args

    assert len(commands("dvc")) > 20
    for _, words in commands("dvc"):
        parse_args(words)


def test_make_targets_in_pages_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake\s([a-z]+)\b`", page.read_text(encoding="utf-8"))}
    assert named
    assert named <= made
