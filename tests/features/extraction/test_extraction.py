"""Extraction: the same features after any kill, error or resume, and every bad image reported once."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import killed_extraction
import numpy as np
import PIL.Image
import pytest
import torch
from pictures import VIEWS, contents, index_of, job, make_images, reindex, tiny_encoder

from features.encoding.augment import Views, centre_crop, random_view
from features.encoding.encoder import Encoder
from features.encoding.images import Reading, read_image
from features.encoding.view_families import positions_of
from features.errors import InputError
from features.extraction import decoding
from features.extraction import pipeline as extraction_pipeline
from features.extraction.decode_worker import Problem
from features.extraction.extract import extract
from features.extraction.pipeline import Advance, Extraction, compute
from features.image_store import writer as image_store_writer
from features.image_store.store import ImageStore
from features.image_store.writer import Shard
from features.index_table import Index

COUNTS = {"train": 40, "val": 5, "test": 21}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Index]:
    return tmp_path / "images", make_images(tmp_path / "images", COUNTS)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 16 training images in 3 crops each."""
    monkeypatch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)


def run(images: tuple[Path, Index], encoder: Encoder, out: Path, **changes: object) -> Path:
    extract(job(*images, encoder, **changes), out, out.parent / "scratch")
    return out


def unfinished(scratch: Path) -> list[str]:
    """Return what lies in the scratch folder beside lock files, which stay there."""
    return [path.name for path in scratch.iterdir() if path.suffix != ".lock"]


def test_stored_features_are_the_encoders(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    store = ImageStore.open(run(images, encoder, tmp_path / "a.zarr"))
    store.verify()
    assert store.meta.encoder == "tiny"
    assert store.meta.weights_sha256 == encoder.weights_sha256
    train = store.load("train")
    assert train.features.shape == (40, 3, 16)
    for row in (0, 17, 39):
        image = read_image(folder / index.paths[row])
        views = [random_view(image, encoder.preprocess, VIEWS.scale, f"0/{n}/{index.paths[row]}") for n in (1, 2)]
        pixels = torch.from_numpy(np.stack([np.asarray(c) for c in (centre_crop(image, encoder.preprocess), *views)]))
        expected = encoder.encode_crops(pixels)
        torch.testing.assert_close(torch.from_numpy(train.features[row]).float(), expected, atol=2e-3, rtol=1e-3)
    assert np.array_equal(train.labels, index.class_ids[:40])
    assert store.load("test").features.shape == (21, 1, 16)
    assert not unfinished(tmp_path / "scratch")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_no_byte(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_pipeline, "cores", lambda: 1 + workers)
    expected = contents(run(images, encoder, tmp_path / "a.zarr"))
    assert contents(run(images, encoder, tmp_path / "b.zarr", workers=workers)) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: copies to it go on while others compute")
def test_on_a_gpu_no_copy_is_read_before_it_is_complete(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    on_gpu = replace(encoder, model=copy.deepcopy(encoder.model).cuda(), device=torch.device("cuda"))
    expected = ImageStore.open(run(images, encoder, tmp_path / "cpu.zarr")).load("train").features.astype(np.float32)
    for turn in range(5):  # many small batches, whose slots are reused at once
        store = ImageStore.open(run(images, on_gpu, tmp_path / f"{turn}.zarr", batch=3, workers=2))
        np.testing.assert_allclose(store.load("train").features.astype(np.float32), expected, atol=5e-3)


def test_the_batch_size_changes_rounding_only(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    stores = [ImageStore.open(run(images, encoder, tmp_path / f"{size}.zarr", batch=size)) for size in (1, 16)]
    for split in stores[0].splits:
        one, many = (store.load(split).features.astype(np.float32) for store in stores)
        np.testing.assert_allclose(one, many, atol=2e-3)


def test_the_order_of_the_index_changes_no_view(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    reversed_index = index_of(folder, [(index.paths[row], 0, "train") for row in reversed(range(40))])
    first = ImageStore.open(run(images, encoder, tmp_path / "a.zarr")).load("train").features
    second = ImageStore.open(run((folder, reversed_index), encoder, tmp_path / "b.zarr")).load("train").features
    np.testing.assert_allclose(first.astype(np.float32), second[::-1].astype(np.float32), atol=2e-3)


def test_settings_reach_the_store(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    changes = {"views": Views(0, (0.3, 0.6), 7), "precision": "bfloat16"}
    store = ImageStore.open(run(images, encoder, tmp_path / "a.zarr", **changes))
    meta = store.meta
    assert (meta.views, meta.view_scale, meta.view_seed, meta.precision) == (0, [0.3, 0.6], 7, "bfloat16")
    assert store.load("train").features.shape == (40, 1, 16)
    exact = ImageStore.open(run(images, encoder, tmp_path / "b.zarr")).load("train").features[:, 0].astype(np.float32)
    near = store.load("train").features[:, 0].astype(np.float32)
    assert 0 < np.abs(exact - near).max() < 0.1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_holds_the_families_after_each_other_and_says_their_cost_before(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    families = {"wide": (0.08, 1.0), "close": (0.05, 0.1)}
    views = replace(VIEWS, families=families)
    both = ImageStore.open(run(images, encoder, tmp_path / "b.zarr", views=views, workers=workers))
    log = capfd.readouterr().err
    assert re.search(r"\(close, wide\) adds 4 views .* 40 training .* 0\.0 MB.* 7 crops .* 3\b", log)
    assert log.index("close, wide") < log.index("66 images")
    both.verify()
    assert both.meta.view_families == {name: list(scale) for name, scale in families.items()}
    assert "close: 0.05 to 0.1; wide: 0.08 to 1" in both.info()
    assert both.load("test").features.shape == (21, 1, 16)

    features = both.load("train").features.astype(np.float32)
    for family, scale in {None: VIEWS.scale, **families}.items():
        alone = ImageStore.open(run(images, encoder, tmp_path / "a.zarr", views=replace(VIEWS, scale=scale)))
        crops = positions_of(family, families, features.shape[1], "store")
        np.testing.assert_allclose(features[:, crops], alone.load("train").features.astype(np.float32), atol=2e-3)
        assert "view_families" not in (alone.path / "meta.json").read_text(encoding="utf-8")
    assert "families" not in capfd.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_the_reading_of_the_index_decides_the_pixels_and_is_in_the_store(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, workers: int
) -> None:
    folder, index = images
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    for path in index.paths:
        PIL.Image.open(folder / path).save(folder / path, exif=exif)
    reading = Reading(upright=True, levels=(0, 4095))
    sideways, upright = reindex(folder, index), replace(reindex(folder, index), reading=reading)
    first = ImageStore.open(run((folder, sideways), encoder, tmp_path / "a.zarr", workers=workers))
    second = ImageStore.open(run((folder, upright), encoder, tmp_path / "b.zarr", workers=workers))
    assert (first.meta.reading, second.meta.reading) == (Reading(), reading)
    assert {"upright", "levels"}.isdisjoint(first.meta.model_fields_set)
    assert "4095" in second.info()

    image = read_image(folder / index.paths[0], reading)
    expected = encoder.encode_crops(torch.from_numpy(np.asarray(centre_crop(image, encoder.preprocess))[None].copy()))[
        0
    ]
    stored = [torch.from_numpy(store.load("train").features[0, 0]).float() for store in (first, second)]
    torch.testing.assert_close(stored[1], expected, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(stored[0], stored[1], atol=2e-2)


def break_images(folder: Path, index: Index) -> Index:
    """Replace three files of two shards by files that are no pictures; return the index of the new files."""
    (folder / index.paths[2]).write_bytes(b"")
    (folder / index.paths[9]).write_bytes(b"<html>")
    good = (folder / index.paths[41]).read_bytes()
    (folder / index.paths[41]).write_bytes(good[:-40])
    return reindex(folder, index)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_all_reported_once(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = images
    expected = contents(run(images, encoder, tmp_path / "whole" / "a.zarr"))
    saved = {row: (folder / index.paths[row]).read_bytes() for row in (2, 9, 41)}
    broken = break_images(folder, index)
    with pytest.raises(InputError, match=r"on_bad_image.*3 problems") as caught:
        run((folder, broken), encoder, tmp_path / "a.zarr", workers=workers)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].removeprefix("  - ") for line in lines] == [index.paths[row] for row in (2, 9, 41)]
    assert not (tmp_path / "a.zarr").exists()

    # The rerun with good images uses the finished shards: only the shards with these images are computed.
    for row, data in saved.items():
        (folder / index.paths[row]).write_bytes(data)
    encoded = count_batches(monkeypatch)
    assert contents(run(images, encoder, tmp_path / "a.zarr", workers=workers)) == expected
    assert len(encoded) == 16 // 2 + 1


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the size of each batch that is encoded from now on."""
    encoded: list[int] = []
    encode = Encoder.encode_crops

    def counted(self: Encoder, crops: torch.Tensor, precision: str) -> torch.Tensor:
        encoded.append(len(crops))
        return encode(self, crops, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "encode_crops", counted)
    return encoded


def test_images_that_differ_from_the_index_are_errors(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    folder, index = images
    data = (folder / index.paths[3]).read_bytes()
    (folder / index.paths[3]).write_bytes(data + b" ")
    (folder / index.paths[4]).unlink()
    with pytest.raises(InputError, match=r"2 images in ") as caught:
        run(images, encoder, tmp_path / "a.zarr")
    assert f"{index.paths[3]}: {len(data) + 1:,} bytes, {len(data):,} when it was indexed" in str(caught.value)
    assert f"{index.paths[4]}: No such file" in str(caught.value)


def test_a_changed_image_of_the_same_length_is_an_error(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    folder, index = images
    data = bytearray((folder / index.paths[3]).read_bytes())
    data[-20] ^= 1
    (folder / index.paths[3]).write_bytes(data)
    with pytest.raises(InputError, match=rf"(?s)1 images .*{index.paths[3]}: "):
        run(images, encoder, tmp_path / "a.zarr")


def test_a_missing_folder_lists_only_the_first_images(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"(?s)66 images .*46 more"):
        run((tmp_path / "nowhere", images[1]), encoder, tmp_path / "a.zarr")


def test_features_that_are_not_finite_are_errors(images: tuple[Path, Index], tmp_path: Path) -> None:
    spoiled = tiny_encoder(tmp_path / "spoiled")
    with torch.no_grad():
        spoiled.model.visual.proj.mul_(1e8)
    with pytest.raises(InputError, match=r"(?s)float16.*float32.*train/0/000\.png"):
        run(images, spoiled, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_full_disk_keeps_finished_shards(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(run(images, encoder, tmp_path / "whole" / "a.zarr"))
    write, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left on device"):
            run(images, encoder, tmp_path / "a.zarr")
    assert len([file for file in contents(tmp_path / "scratch") if "part" not in file and "lock" not in file]) == 2
    assert contents(run(images, encoder, tmp_path / "a.zarr")) == expected


def test_an_unwritable_scratch_folder_is_an_error(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="scratch"):
        run(images, encoder, tmp_path / "a.zarr")


def test_a_second_extraction_of_the_same_features_at_the_same_time_is_an_error(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    def meanwhile(job: Extraction, todo: Sequence[Shard], shard_folder: Path, advance: Advance) -> list[Problem]:
        with pytest.raises(InputError, match=r"another process.*\.lock"):
            run(images, encoder, tmp_path / "a.zarr")
        return compute(job, todo, shard_folder, advance)

    extract(job(*images, encoder), tmp_path / "a.zarr", tmp_path / "scratch", meanwhile)
    assert contents(tmp_path / "a.zarr") == contents(run(images, encoder, tmp_path / "b.zarr"))


def test_a_decoding_process_that_dies_is_an_error(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = decoding._start

    def doomed(*args: object) -> subprocess.Popen[str]:
        process = start(*args)  # type: ignore[arg-type]
        process.kill()
        return process

    monkeypatch.setattr(decoding, "_start", doomed)
    with pytest.raises(InputError, match=r"exit status -9.*compute\.workers"):
        run(images, encoder, tmp_path / "a.zarr", workers=1)


def test_a_log_gets_one_progress_line(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(images, encoder, tmp_path / "a.zarr")
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("extract a: 66 images, 66 in 0:0")


# ----- kills ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_images(folder / "images", {"train": 40})
    ended = killed_extraction.run(folder, "never")
    assert ended.status == 0, ended.stderr
    return contents(folder / "a.zarr")


@pytest.mark.system
@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        ("first batch", 0),
        ("second shard encoded", 1),
        ("all shards finished", 3),
        ("store half written", 3),
        ("store in place", 3),
    ],
)
def test_rerun_after_a_kill_gives_the_same_bytes(
    moment: str, kept: int, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", {"train": 40})
    killed = killed_extraction.run(tmp_path, moment)
    assert killed.status == -signal.SIGKILL, killed.stderr
    shards = [file for file in (tmp_path / "scratch").glob("*/*") if file.is_file() and not file.name.startswith(".")]
    assert len(shards) == kept
    assert (tmp_path / "a.zarr").exists() == (moment == "store in place")
    assert no_decoder_is_left(tmp_path)

    again = killed_extraction.run(tmp_path, "never")
    assert again.status == 0, again.stderr
    assert f"{min(16 * kept, 40):,} of 40 images kept" in again.stderr if kept else "kept" not in again.stderr
    assert contents(tmp_path / "a.zarr") == undisturbed
    assert not unfinished(tmp_path / "scratch")


@pytest.mark.system
def test_interruption_keeps_finished_shards(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    make_images(tmp_path / "images", {"train": 40})
    stopped = killed_extraction.run(tmp_path, "second shard encoded", signal.SIGINT)
    assert "KeyboardInterrupt" in stopped.stderr.splitlines()[-1]
    assert no_decoder_is_left(tmp_path)
    assert not (tmp_path / "a.zarr").exists()
    assert killed_extraction.run(tmp_path, "never").status == 0
    assert contents(tmp_path / "a.zarr") == undisturbed


def no_decoder_is_left(folder: Path) -> bool:
    """Return whether the processes that decoded below `folder` have ended, or end within seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(json.dumps(str(folder / "images")) in line for line in _command_lines()):
            return True
        time.sleep(0.1)
    return False


def _command_lines() -> list[str]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system always uses the fallback")
def test_shared_memory_without_memfd(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(run(images, encoder, tmp_path / "a.zarr", workers=2))
    monkeypatch.delattr(os, "memfd_create")
    assert contents(run(images, encoder, tmp_path / "b.zarr", workers=2)) == expected


def test_photographs_give_the_encoders_features(shared: Path, tmp_path: Path, encoder: Encoder) -> None:
    folder = shared / "data" / "caltech-101" / "101_ObjectCategories"
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/image_0001.jpg"))[:12]
    index = index_of(folder, [(path, row, "test") for row, path in enumerate(paths)])
    store = ImageStore.open(run((folder, index), encoder, tmp_path / "a.zarr", workers=1))
    crops = np.stack([np.asarray(centre_crop(read_image(folder / path), encoder.preprocess)) for path in paths])
    expected = encoder.encode_crops(torch.from_numpy(crops))
    features = torch.from_numpy(store.load("test").features[:, 0]).float()
    torch.testing.assert_close(features, expected, atol=2e-3, rtol=1e-3)
