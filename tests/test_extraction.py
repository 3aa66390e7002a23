"""Extraction: the same features whatever happens on the way, and every bad image named once."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import VIEWS, contents, index_of, job, make_images, reindex, tiny_encoder

from features.encoding.augment import Views, centre_crop, random_view
from features.encoding.encoder import Encoder
from features.encoding.images import read_image
from features.errors import InputError
from features.extraction import decoding
from features.extraction import pipeline as extraction_pipeline
from features.extraction.extract import extract
from features.image_store import writer as image_store_writer
from features.image_store.store import ImageStore
from features.index import Index

TESTS = Path(__file__).resolve().parent
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


def test_stored_features_are_the_encoders(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    store = ImageStore.open(run(images, encoder, tmp_path / "a.zarr"))
    store.verify()
    assert store.meta.encoder == "tiny"
    assert store.meta.weights_sha256 == encoder.weights_sha256
    found = store.load("train")
    assert found.features.shape == (40, 3, 16)
    for row in (0, 17, 39):
        image = read_image(folder / index.paths[row])
        views = [random_view(image, encoder.preprocess, VIEWS.scale, f"0/{n}/{index.paths[row]}") for n in (1, 2)]
        pixels = torch.from_numpy(np.stack([np.asarray(c) for c in (centre_crop(image, encoder.preprocess), *views)]))
        expected = encoder.encode_crops(pixels)
        torch.testing.assert_close(torch.from_numpy(found.features[row]).float(), expected, atol=2e-3, rtol=1e-3)
    assert np.array_equal(found.labels, index.class_ids[:40])
    assert store.load("test").features.shape == (21, 1, 16)
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())


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
    there = replace(encoder, model=copy.deepcopy(encoder.model).cuda(), device=torch.device("cuda"))
    expected = ImageStore.open(run(images, encoder, tmp_path / "cpu.zarr")).load("train").features.astype(np.float32)
    for turn in range(5):  # many small batches, each of whose slots is used again at once
        store = ImageStore.open(run(images, there, tmp_path / f"{turn}.zarr", batch=3, workers=2))
        np.testing.assert_allclose(store.load("train").features.astype(np.float32), expected, atol=5e-3)


def test_batch_changes_rounding_at_most(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    stores = [ImageStore.open(run(images, encoder, tmp_path / f"{size}.zarr", batch=size)) for size in (1, 16)]
    for split in stores[0].splits:
        one, many = (store.load(split).features.astype(np.float32) for store in stores)
        np.testing.assert_allclose(one, many, atol=2e-3)


def test_order_of_the_index_changes_no_view(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    turned = index_of(folder, [(index.paths[row], 0, "train") for row in reversed(range(40))])
    first = ImageStore.open(run(images, encoder, tmp_path / "a.zarr")).load("train").features
    second = ImageStore.open(run((folder, turned), encoder, tmp_path / "b.zarr")).load("train").features
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


def break_images(folder: Path, index: Index) -> Index:
    """Three files of two shards that are no pictures, which the index does not know."""
    (folder / index.paths[2]).write_bytes(b"")
    (folder / index.paths[9]).write_bytes(b"<html>")
    good = (folder / index.paths[41]).read_bytes()
    (folder / index.paths[41]).write_bytes(good[:-40])
    return reindex(folder, index)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_all_told_once(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = images
    expected = contents(run(images, encoder, tmp_path / "whole" / "a.zarr"))
    saved = {row: (folder / index.paths[row]).read_bytes() for row in (2, 9, 41)}
    broken = break_images(folder, index)
    with pytest.raises(InputError, match=r"put good copies in their place.*3 problems") as caught:
        run((folder, broken), encoder, tmp_path / "a.zarr", workers=workers)
    told = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].removeprefix("  - ") for line in told] == [index.paths[row] for row in (2, 9, 41)]
    assert not (tmp_path / "a.zarr").exists()

    # What was finished serves the rerun after the remedy: only the shards with these images are computed.
    for row, data in saved.items():
        (folder / index.paths[row]).write_bytes(data)
    encoded = count_batches(monkeypatch)
    assert contents(run(images, encoder, tmp_path / "a.zarr", workers=workers)) == expected
    assert len(encoded) == 16 // 2 + 1


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is encoded from here on, a batch each."""
    encoded: list[int] = []
    encode = Encoder.encode_crops

    def counted(self: Encoder, crops: torch.Tensor, precision: str) -> torch.Tensor:
        encoded.append(len(crops))
        return encode(self, crops, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "encode_crops", counted)
    return encoded


def test_images_other_than_indexed(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    data = (folder / index.paths[3]).read_bytes()
    (folder / index.paths[3]).write_bytes(data + b" ")
    (folder / index.paths[4]).unlink()
    with pytest.raises(InputError, match=r"2 images in .* are not those of the index: .*index") as caught:
        run(images, encoder, tmp_path / "a.zarr")
    assert f"{index.paths[3]}: {len(data) + 1:,} bytes, {len(data):,} when it was indexed" in str(caught.value)
    assert f"{index.paths[4]}: No such file" in str(caught.value)


def test_same_length_other_bytes(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    folder, index = images
    data = bytearray((folder / index.paths[3]).read_bytes())
    data[-20] ^= 1
    (folder / index.paths[3]).write_bytes(data)
    with pytest.raises(InputError, match=rf"(?s)1 images .* not those of the index.*{index.paths[3]}: its bytes"):
        run(images, encoder, tmp_path / "a.zarr")


def test_missing_folder_is_not_told_image_by_image(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"(?s)66 images .*\.\.\. and 46 more"):
        run((tmp_path / "nowhere", images[1]), encoder, tmp_path / "a.zarr")


def test_features_that_are_not_finite_are_refused(images: tuple[Path, Index], tmp_path: Path) -> None:
    spoiled = tiny_encoder(tmp_path / "spoiled")
    with torch.no_grad():
        spoiled.model.visual.proj.mul_(1e8)
    with pytest.raises(InputError, match=r"(?s)not finite as float16, computed in float32.*train/0/000.png"):
        run(images, spoiled, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_full_disk(
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


def test_unwritable_scratch(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot write"):
        run(images, encoder, tmp_path / "a.zarr")


def test_second_extraction_of_the_same_waits_its_turn(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def busy(file: object, operation: int) -> None:
        with Path(file.name).open() as other:  # type: ignore[attr-defined]
            flock(other, fcntl.LOCK_EX)
            flock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", busy)
    with pytest.raises(InputError, match="another process extracts the same features now"):
        run(images, encoder, tmp_path / "a.zarr")


def test_decoding_process_that_dies(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = decoding._start

    def doomed(*args: object) -> subprocess.Popen[str]:
        process = start(*args)  # type: ignore[arg-type]
        process.kill()
        return process

    monkeypatch.setattr(decoding, "_start", doomed)
    with pytest.raises(InputError, match=r"decodes images ended by itself \(exit status -9"):
        run(images, encoder, tmp_path / "a.zarr", workers=1)


def test_progress_is_quiet_off_a_terminal(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(images, encoder, tmp_path / "a.zarr")
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("extract a: 66 images, 66 in 0:0")


# ----- kills ---------------------------------------------------------------------------------------------------------

RUN = """
import os, signal, sys
from pathlib import Path
tests, folder, moment, sign = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], getattr(signal, sys.argv[4])
sys.path[:0] = [str(tests), str(tests.parent)]
import torch
from pictures import index_of, job
from features.extraction import extract as extraction
from features.extraction import pipeline as extraction_pipeline
from features.image_store import writer as image_store_writer
from features.encoding.augment import Preprocess
from features.encoding.encoder import Encoder

class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(48, 8)
    def encode_image(self, pixels):
        return self.layer(pixels.flatten(1))

image_store_writer.CROPS_IN_SHARD = 64
model = Flat().eval().requires_grad_(False)
device = torch.device("cpu")
preprocess = Preprocess((4, 4), (0.5,) * 3, (0.5,) * 3, "bicubic", "shortest")
encoder = Encoder("flat", model, preprocess, 8, "0" * 64, device)

def after(module, name, calls):
    inner, seen = getattr(module, name), []
    def counted(*args, **options):
        result = inner(*args, **options)
        seen.append(args)
        if len(seen) == calls:
            os.kill(os.getpid(), sign)
        return result
    setattr(module, name, counted)

where, name, calls = {
    "first batch": (extraction_pipeline.Decoders, "submit", 3),
    "second shard encoded": (image_store_writer, "encode_shard", 2),
    "all shards there": (extraction, "_refuse_problems", 1),
    "store half put together": (image_store_writer, "_link", 2),
    "store in place": (extraction, "write_store", 1),
    "never": (extraction, "remove", 99),
}[moment]
after(where, name, calls)
rows = [(f"train/{n % 3}/{n:03}.png", n % 3, "train") for n in range(40)]
rows = sorted(p.relative_to(folder / "images").as_posix() for p in (folder / "images").rglob("*.png"))
index = index_of(folder / "images", [(path, int(path.split("/")[1]), "train") for path in rows])
extraction.extract(job(folder / "images", index, encoder, workers=2), folder / "a.zarr", folder / "scratch")
"""


def start(folder: Path, moment: str, sign: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, str(TESTS), str(folder), moment, sign]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_images(folder / "images", {"train": 40})
    done = start(folder, "never")
    assert done.returncode == 0, done.stderr
    return contents(folder / "a.zarr")


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        ("first batch", 0),
        ("second shard encoded", 1),
        ("all shards there", 3),
        ("store half put together", 3),
        ("store in place", 3),
    ],
)
def test_rerun_after_a_kill_gives_the_same_bytes(
    moment: str, kept: int, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", {"train": 40})
    killed = start(tmp_path, moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    shards = [file for file in (tmp_path / "scratch").glob("*/*") if file.is_file() and not file.name.startswith(".")]
    assert len(shards) == kept
    assert (tmp_path / "a.zarr").exists() == (moment == "store in place")
    assert nobody_decodes(tmp_path)
    again = start(tmp_path, "never")
    assert again.returncode == 0, again.stderr
    assert f"{min(16 * kept, 40):,} of 40 images kept" in again.stderr if kept else "kept" not in again.stderr
    assert contents(tmp_path / "a.zarr") == undisturbed
    assert not any((tmp_path / "scratch").iterdir())


def test_interruption_keeps_finished_shards(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    make_images(tmp_path / "images", {"train": 40})
    stopped = start(tmp_path, "second shard encoded", "SIGINT")
    assert "KeyboardInterrupt" in stopped.stderr.splitlines()[-1]
    assert nobody_decodes(tmp_path)
    assert not (tmp_path / "a.zarr").exists()
    assert start(tmp_path, "never").returncode == 0
    assert contents(tmp_path / "a.zarr") == undisturbed


def nobody_decodes(folder: Path) -> bool:
    """Whether the processes that decoded below `folder` are gone, or go within seconds."""
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


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the fallback is what this system uses anyway")
def test_shared_memory_without_memfd(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(run(images, encoder, tmp_path / "a.zarr", workers=2))
    monkeypatch.delattr(os, "memfd_create")
    assert contents(run(images, encoder, tmp_path / "b.zarr", workers=2)) == expected


def test_photographs(shared: Path, tmp_path: Path, encoder: Encoder) -> None:
    folder = shared / "data" / "caltech-101" / "101_ObjectCategories"
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/image_0001.jpg"))[:12]
    index = index_of(folder, [(path, row, "test") for row, path in enumerate(paths)])
    store = ImageStore.open(run((folder, index), encoder, tmp_path / "a.zarr", workers=1))
    crops = np.stack([np.asarray(centre_crop(read_image(folder / path), encoder.preprocess)) for path in paths])
    expected = encoder.encode_crops(torch.from_numpy(crops))
    found = torch.from_numpy(store.load("test").features[:, 0]).float()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)
