"""Read the pages of docs/: their code blocks, their commands, and the lines they add to params.yaml."""

from __future__ import annotations

import re
import shlex
from itertools import dropwhile
from pathlib import Path

from project_root import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]
PROGRAMS = "shipyard|dvc"


def blocks(page: Path, language: str) -> list[str]:
    """Return the page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return each line of the page's shell blocks and each command in a table's last column, without comments."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(rf"^\|.*\| `((?:{PROGRAMS}) .*)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"\s+", " ", re.sub(r"\s#.*", "", line)).strip() for line in lines if line.strip()]


def calls(program: str) -> list[tuple[str, list[str]]]:
    """Return the page and the arguments of each call of a program among the commands of all pages."""
    listing = []
    for page in PAGES:
        for line in commands(page):
            words = [*dropwhile(lambda word: "=" in word, shlex.split(line))]  # X=1 before a command
            if words and Path(words[0]).name == program:
                listing.append((page.name, words[1:]))
    return listing


def example(page: str) -> str:
    """Return the Python file that a page of docs/ gives as its example."""
    (code,) = blocks(ROOT / f"docs/{page}.md", "python")
    return code


def with_settings_of(page: str, text: str) -> str:
    """Return a params file with the lines that a page of docs/ adds: keys of `grid` are replaced, blocks are added."""
    (added,) = blocks(ROOT / f"docs/{page}.md", "yaml")
    for block, lines in re.findall(r"^(\w+):\n((?: .*\n)+)", added, re.MULTILINE):
        if block == "grid":
            for key, values in re.findall(r"^  (\w+): (\[.*?\])", lines, re.MULTILINE):
                text = re.sub(rf"^  {key}: \[.*?\]", f"  {key}: {values}", text, count=1, flags=re.MULTILINE)
            continue

        # The lines of `data: sets:` go below `sets:`, those of any other block directly below its name.
        header = "  sets:" if block == "data" else f"{block}:"
        addition = lines.removeprefix("  sets:\n")
        (line,) = re.findall(rf"^{header}.*\n", text, re.MULTILINE)
        text = text.replace(line, line + addition, 1)
    return text


def put_mushrooms(root: Path) -> list[Path]:
    """Write the split files of docs/add_a_dataset.md below `root`; return the paths where the images belong."""
    names = {"train": ["fly agaric", "cep", "death cap"], "val": ["cep"], "test": ["cep", "death cap", "fly agaric"]}
    (root / "mushrooms/images").mkdir(parents=True)
    for split, classes in names.items():
        lines = [f"{split}_{i}.jpg\t{name}" for i, name in enumerate(classes)]
        (root / f"mushrooms/{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return [root / f"mushrooms/images/{split}_{i}.jpg" for split in names for i in range(len(names[split]))]
