"""The images that the arguments of `shipyard predict` name: files, folders, patterns, and members of archives."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from loopback_s3 import s3_files
from small_archives import write_arrow, write_parquet, write_tar
from trained import GOOD
from typer.testing import CliRunner, Result

from features.errors import InputError
from pipeline.cli.app import app
from pipeline.inference.inputs import expand


def test_files_folders_globs_and_lists_are_expanded_in_order_and_repeated_ones_are_kept(project: Path) -> None:
    Path("photos/._0.png").touch()
    Path("photos/notes.txt").touch()
    found = expand(["photos"], [])
    assert found.paths == [*GOOD[:3], "photos/broken.jpg", *GOOD[3:]]
    assert {path for path, _ in found.passed_over} == {"._0.png", "notes.txt"}
    assert expand(["photos/**/[23].png", "photos/2.png", "-"], ["photos/0.png\n", "\n"]).paths == [
        *("photos/2.png", "photos/old/3.png"),
        *("photos/2.png", "photos/0.png"),
    ]
    assert expand(["gone.png", "gone*.png"], []).paths == ["gone.png"]


def test_a_folder_that_a_pattern_matches_is_read_once(project: Path) -> None:
    files = [*GOOD[:3], "photos/broken.jpg", *GOOD[3:]]
    assert (
        expand(["photos/*"], []).paths == expand(["photos/**"], []).paths == expand(["photos/**/*"], []).paths == files
    )
    assert expand(["pho*"], []).paths == files


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["predict", "mine", *args])


def classes(*arguments: str) -> dict[str, tuple[str, str]]:
    """Return what is predicted for each path: class and probability."""
    result = call(*arguments, "--csv", "found.csv", "--html", "found.html", "--overwrite")
    assert result.exit_code == 0, result.output
    with Path("found.csv").open(encoding="utf-8") as file:
        return {row["path"]: (row["class"], row["probability"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(("suffix", "write"), [("tar", write_tar), ("parquet", write_parquet), ("arrow", write_arrow)])
def test_members_of_archives_are_classified_as_the_files_are(
    project: Path, suffix: str, write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    names = {path: path.replace("photos", "tern") for path in GOOD}
    images = {name: Path(path).read_bytes() for path, name in names.items()}
    write(project / f"shards/0.{suffix}", dict([*images.items()][:3]))
    write(project / f"shards/1.{suffix}", dict([*images.items()][3:]))

    as_files = classes(*GOOD)
    expected = {f"shards/{number // 3}.{suffix}/{names[path]}": as_files[path] for number, path in enumerate(GOOD)}
    assert classes(f"shards/*.{suffix}") == expected
    assert classes("shards") == expected, "a folder that holds archives and no images"
    assert Path("found.html").read_text(encoding="utf-8").count("<img") == len(GOOD)


@pytest.mark.system
def test_archives_in_a_bucket_are_classified_as_the_files_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = write_tar(project / "0.tar", {path: Path(path).read_bytes() for path in GOOD})
    with s3_files(monkeypatch) as bucket:
        bucket.put_file(str(tar), "team/photos/0.tar")
        expected = {f"s3://team/photos/0.tar/{path}": found for path, found in classes(*GOOD).items()}
        assert classes("s3://team/photos/*.tar") == expected
        assert classes("s3://team/photos") == expected
        missing = call("s3://team/gone/*.tar")
    assert isinstance(missing.exception, InputError)
    assert "s3://team/gone" in str(missing.exception)


def test_an_archive_that_cannot_be_read_is_an_error_before_any_image_is_classified(project: Path) -> None:
    Path("broken.tar").write_bytes(b"no tar at all, but longer than nothing")
    with pytest.raises(InputError, match=r"broken\.tar"):
        expand(["broken.tar"], [])


def test_an_archive_is_not_replaced_by_an_output(project: Path) -> None:
    write_tar(project / "photos.tar", {"tern/0.png": Path(GOOD[0]).read_bytes()})
    result = call("photos.tar", "--csv", "photos.tar", "--overwrite")
    assert isinstance(result.exception, InputError)
    assert "photos.tar" in str(result.exception)
