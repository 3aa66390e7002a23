"""The pages: their code blocks, their commands, and what they add to a project."""

from __future__ import annotations

import re
import shlex
from itertools import dropwhile
from pathlib import Path

from closure import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]
PROGRAMS = "shipyard|dvc"


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every line of the page's shell blocks, and every row of a table whose last cell is a command; no comments."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(rf"^\|.*\| `((?:{PROGRAMS}) .*)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"\s+", " ", re.sub(r"\s#.*", "", line)).strip() for line in lines if line.strip()]


def calls(program: str) -> list[tuple[str, list[str]]]:
    """Every call of a program among the commands: the page, and the program's arguments."""
    found = []
    for page in PAGES:
        for line in commands(page):
            words = [*dropwhile(lambda word: "=" in word, shlex.split(line))]  # X=1 before a command
            if words and Path(words[0]).name == program:
                found.append((page.name, words[1:]))
    return found


def example_method() -> str:
    """The file of docs/add_a_method.md."""
    (code,) = blocks(ROOT / "docs/add_a_method.md", "python")
    return code


def with_example_method(text: str) -> str:
    """A params file with the lines of docs/add_a_method.md."""
    (added,) = blocks(ROOT / "docs/add_a_method.md", "yaml")
    grid, block = re.findall(r"^  methods: \[.*?\]|^  class_means:.*", added, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^  methods: \[.*?\]", grid, text, count=1, flags=re.MULTILINE)
    return text.replace("\nmethods:\n", f"\nmethods:\n{block}\n")


def example_data_set() -> str:
    """The file of docs/add_a_dataset.md."""
    (code,) = blocks(ROOT / "docs/add_a_dataset.md", "python")
    return code


def with_example_data_set(text: str) -> str:
    """A params file with the line of docs/add_a_dataset.md."""
    (added,) = blocks(ROOT / "docs/add_a_dataset.md", "yaml")
    (line,) = re.findall(r"^    mushrooms:.*\n", added, re.MULTILINE)
    return text.replace("\n  sets:", f"\n  sets:\n{line.rstrip()}", 1)


def put_mushrooms(root: Path) -> list[Path]:
    """The split files of docs/add_a_dataset.md below `root`; returns where the images belong."""
    names = {"train": ["fly agaric", "cep", "death cap"], "val": ["cep"], "test": ["cep", "death cap", "fly agaric"]}
    (root / "mushrooms/images").mkdir(parents=True)
    for split, found in names.items():
        lines = [f"{split}_{i}.jpg\t{name}" for i, name in enumerate(found)]
        (root / f"mushrooms/{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return [root / f"mushrooms/images/{split}_{i}.jpg" for split in names for i in range(len(names[split]))]
