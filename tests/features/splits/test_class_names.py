"""Lists of class names as people paste them."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import InputError
from features.splits.class_names import NamesList, read_names, understand


@pytest.mark.parametrize(
    "text",
    [
        "owl, wren, kestrel",
        "owl,wren,kestrel\n",
        "1. owl\n2. wren\n3. kestrel",
        "1) owl\n2) wren\n10) kestrel",
        "- owl\n- wren\n- kestrel",
        "* owl\n• wren\n– kestrel",
        "name\nowl\nwren\nkestrel",
        'Class\n"owl"\n"wren"\n"kestrel"',
        "owl; wren; kestrel",
        "owl\twren\tkestrel",
        "> owl\n> wren\n> kestrel",
        "a) owl\nb) wren\nc) kestrel",
        "[ ] owl\n[x] wren\n[ ] kestrel",
        "id;Name\n1;owl\n2;wren\n3;kestrel",
        "owl\nwren\nkestrel\nowl\n",
        "- [ ] owl\n- [x] wren\n- [ ] kestrel",
        "> 1. owl\n> 2. wren\n> 3. kestrel",
        "◦ owl\n— wren\n☐ kestrel",
        "Unseen classes:\nowl\nwren\nkestrel",
        "[owl, wren, kestrel]",
    ],
)
def test_usual_lists_are_understood_and_said(text: str) -> None:
    found = understand(text, "names.txt")
    assert found.names == ("owl", "wren", "kestrel")
    assert found.notes


@pytest.mark.parametrize("text", ["owl\nwren\n", "# birds\nowl\n\n  wren\n"])
def test_one_name_a_line_needs_no_note(text: str) -> None:
    assert understand(text, "names.txt") == NamesList(("owl", "wren"), ())


@pytest.mark.parametrize(("encoding", "noted"), [("utf-8-sig", False), ("utf-16", False), ("cp1252", True)])
def test_files_of_windows_are_read(encoding: str, noted: bool, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_bytes("m\u00e4use\r\ncaf\u00e9\r\n".encode(encoding))
    found = read_names(tmp_path / "n.txt")
    assert found.names == ("m\u00e4use", "caf\u00e9")
    assert any("1252" in note for note in found.notes) == noted


def test_other_lists_that_need_no_note() -> None:
    for text in ('["owl", "barn owl"]', "['owl', 'barn owl']", "owl,\nbarn owl,\n", "\u2018owl\u2019\n'barn owl'"):
        assert understand(text, "t") == NamesList(("owl", "barn owl"), ())
    assert understand("\u200f\u05d1\u05d6\u200f\n", "t").names == ("\u05d1\u05d6",), "marks of direction are no signs"
    assert understand("barn\u00a0owl\n\u200bwren", "t").names == ("barn owl", "wren")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("great tit (Parus major, Linnaeus), wren", ("great tit (Parus major, Linnaeus)", "wren")),
        (
            "great tit (Parus major, L.)\nwren (Troglodytes, L.)",
            ("great tit (Parus major, L.)", "wren (Troglodytes, L.)"),
        ),
        ("3.5 inch disk\n5.25 inch disk", ("3.5 inch disk", "5.25 inch disk")),
        ('["owl", 3]', ("owl", "3")),
        ("  # birds\nowl", ("owl",)),
    ],
)
def test_commas_and_numbers_within_names_are_kept(text: str, names: tuple[str, ...]) -> None:
    assert understand(text, "names.txt").names == names


@pytest.mark.parametrize("text", ['{"names": ["owl", "wren"]}', "owl (bird, wren)]", "owl, #1 wren"])
def test_names_that_are_cut_in_a_bracket_or_would_be_comments_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be"):
        understand(text, "--unseen")


def test_an_empty_list_is_said_to_be_empty() -> None:
    assert understand("\n# none yet\n", "t") == NamesList((), ("t: there are no names in it",))


def test_names_keep_their_signs() -> None:
    text = "1920s car\nbishop's hat\ncafe\u0301, open\nX-ray\n3D printer"
    assert understand(text, "t").names == ("1920s car", "bishop's hat", "caf\u00e9, open", "X-ray", "3D printer")
    species = ("E. coli", "A. thaliana", "d'Arnaud's barbet")
    assert understand("\n".join(species), "t").names == species
    assert understand("\n".join(species[:2]), "t").names == species[:2], "their first letters are no list"


def test_a_table_is_asked_about() -> None:
    with pytest.raises(InputError, match=r"owl, Strix"):
        understand("owl, Strix\nwren, Troglodytes", "t")


@pytest.mark.parametrize("text", ["- owl\nwren", "Hi, the names are\n1. owl\n2. wren\nBest, Ann"])
def test_lines_of_which_only_some_have_a_bullet_are_asked_about(text: str) -> None:
    with pytest.raises(InputError, match="owl"):
        understand(text, "t")


def test_names_may_stand_in_the_option(tmp_path: Path) -> None:
    assert read_names(Path("owl, wren")).names == ("owl", "wren")
    for wrong in ("", "owl", str(tmp_path)):
        with pytest.raises(InputError, match="--unseen"):
            read_names(Path(wrong))
    (tmp_path / "none.txt").touch()
    assert read_names(tmp_path / "none.txt").notes
