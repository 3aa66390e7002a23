"""Layouts of data sets: the official ones and CoOp's, incomplete copies, and the errors for wrong ones."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import miniature, touch

import features.datasets
from features.datasets.base import Listing, Published, Reader, reader_from
from features.encoding.images import UnreadableImageError, decode
from features.errors import InputError, raise_all
from features.listing_checks import mistakes
from features.lookup import find, names
from features.splits.imagenet_classes import ImageNetTestSet, class_names, wordnet_ids
from features.splits.split_zhou import SplitReader

PUBLISHED = [name for name in names(features.datasets) if issubclass(find(features.datasets, name, Reader), Published)]


def read(root: Path, name: str, **options: Any) -> Listing:
    listing = reader_from({"reader": name, **options}, "params.yaml: data.sets.x").read(root)
    raise_all(listing.faults, "faults")
    return listing


def placed(listing: Listing) -> set[tuple[str, str, str]]:
    return {(image.path, listing.classes[image.class_id], image.split) for image in listing.images}


# Every published data set


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_image_is_reported(name: str, tmp_path: Path) -> None:
    spec = miniature(name, tmp_path)
    whole = read(tmp_path, name, **spec)
    folder = reader_from({"reader": name, **spec}, "").folder(tmp_path)
    gone = next(image.path for image in whole.images if image.split == "test")
    (folder / gone).unlink()
    partial = read(tmp_path, name, **{**spec, "allow_partial": True})
    assert partial.missing == whole.missing + 1
    assert {image.path for image in partial.images} == {image.path for image in whole.images} - {gone}
    assert partial.classes == whole.classes, "ids stay"
    if not spec.get("allow_partial"):
        with pytest.raises(InputError, match="allow_partial: true") as error:
            read(tmp_path, name, **spec)
        assert gone in str(error.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_extensions_may_be_of_either_case(name: str, tmp_path: Path) -> None:
    spec = miniature(name, tmp_path)
    folder = reader_from({"reader": name, **spec}, "").folder(tmp_path)
    before = Counter(image.class_id for image in read(tmp_path, name, **spec).images)
    for file in [file for file in folder.rglob("*") if file.suffix in {".jpg", ".JPEG"}]:
        file.rename(file.with_suffix(file.suffix.swapcase()))
    after = read(tmp_path, name, **spec)
    assert Counter(image.class_id for image in after.images) == before
    assert all((folder / image.path).is_file() for image in after.images)


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_files_in_a_copy_are_ignored(name: str, tmp_path: Path) -> None:
    """If every folder is a class, an unknown one is an error: it may be a class under another name."""
    spec = miniature(name, tmp_path)
    before = read(tmp_path, name, **spec)
    folder = reader_from({"reader": name, **spec}, "").folder(tmp_path)
    touch(folder, [".DS_Store", "Thumbs.db", "readme.txt", ".cache/1.jpg", "a backup/1.jpg"])
    if issubclass(find(features.datasets, name, Reader), ImageNetTestSet):
        with pytest.raises(InputError, match="a backup: "):
            read(tmp_path, name, **spec)
        shutil.rmtree(folder / "a backup")
    assert read(tmp_path, name, **spec) == before


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_description_is_complete(name: str) -> None:
    reader = find(features.datasets, name, Reader)
    assert issubclass(reader, Published)
    origin = reader.origin
    assert origin.counts
    assert all((origin.title, origin.licence, origin.home, origin.citation, reader.layout, reader.source))
    assert origin.home.startswith("https://")
    own = reader_from({"reader": name, "templates": ["{} here"]}, "")
    assert isinstance(own, Published)
    assert own.templates == ("{} here",)
    usual = reader_from({"reader": name}, "")
    assert isinstance(usual, Published)
    assert all(template.count("{}") == 1 for template in usual.templates)
    assert reader.archives or "data.root" in reader.source, "explain where to get it and where to put it"


# CoOp's split files


@pytest.mark.parametrize("name", ["food101", "sun397"])
def test_a_split_that_is_not_in_the_package_must_be_downloaded(name: str, tmp_path: Path) -> None:
    miniature(name, tmp_path)
    reader = find(features.datasets, name, Reader)
    assert issubclass(reader, SplitReader)
    (tmp_path / reader.model_fields["path"].default / reader.split_file).unlink()
    with pytest.raises(InputError, match=r"(?s)split_zhou_\w+\.json.*https://drive\.google\.com"):
        read(tmp_path, name)


def test_kaggles_copy_of_cars_is_a_folder_deeper(tmp_path: Path) -> None:
    layouts.stanford_cars(tmp_path)
    before = placed(read(tmp_path, "stanford_cars"))
    for part in ("cars_train", "cars_test"):
        folder = tmp_path / "stanford_cars" / part
        folder.rename(folder.with_name("moved"))
        folder.mkdir()
        folder.with_name("moved").rename(folder / part)
    after = placed(read(tmp_path, "stanford_cars"))
    assert after == {(f"{path.partition('/')[0]}/{path}", name, split) for path, name, split in before}


@pytest.mark.parametrize(
    ("name", "coop", "other"),
    [
        ("dtd", "dtd/images", "dtd/dtd/images"),
        ("eurosat", "eurosat/2750", "eurosat/EuroSAT_RGB"),
        ("imagenet_sketch", "imagenet-sketch/sketch", "imagenet-sketch/images"),
        ("imagenet", "imagenet/images", "imagenet/ILSVRC/Data/CLS-LOC"),
    ],
)
def test_official_layouts_are_read_where_they_differ(name: str, coop: str, other: str, tmp_path: Path) -> None:
    spec = miniature(name, tmp_path)
    before = read(tmp_path, name, **spec)
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / coop).rename(tmp_path / other)
    assert read(tmp_path, name, **spec) == before


# Videos


def video(frames: int) -> bytes:
    """An AVI whose frame i is grey of 20 i."""
    av = pytest.importorskip("av", reason="needs the extra `video`")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pictures = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(frames)]
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(("frames", "middle"), [(1, 0), (8, 4), (9, 4)])
def test_a_videos_middle_frame_is_its_picture(frames: int, middle: int) -> None:
    picture = decode(video(frames))
    assert (picture.size, picture.mode) == ((64, 48), "RGB")
    assert abs(np.asarray(picture).mean() - 20 * middle) < 5


def test_a_video_that_breaks_off_is_no_picture() -> None:
    with pytest.raises(UnreadableImageError):
        decode(video(9)[:3000])


def test_ucf101_takes_the_videos_where_there_are_no_frames(tmp_path: Path) -> None:
    layouts.ucf101(tmp_path)
    frames = read(tmp_path, "ucf101")
    shutil.rmtree(tmp_path / "ucf101/UCF-101-midframes")
    videos = {path: f"{path.split('/')[0].replace('_', '')}/{Path(path).stem}.avi" for path, *_ in placed(frames)}
    touch(tmp_path / "ucf101/UCF-101", videos.values())
    assert "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi" in videos.values()
    assert placed(read(tmp_path, "ucf101")) == {(videos[path], name, split) for path, name, split in placed(frames)}


# FGVC Aircraft


def test_aircraft_is_read_from_its_text_files(tmp_path: Path) -> None:
    layouts.fgvc_aircraft(tmp_path)
    listing = read(tmp_path, "fgvc_aircraft")
    assert listing.classes == ("DC-9-30", "F/A-18")
    assert placed(listing) == {
        ("0000001.jpg", "F/A-18", "train"),
        ("0000002.jpg", "DC-9-30", "train"),
        ("0000003.jpg", "F/A-18", "val"),
        ("0000004.jpg", "DC-9-30", "test"),
    }
    (tmp_path / "fgvc_aircraft").rename(tmp_path / "data")
    (tmp_path / "fgvc_aircraft").mkdir()
    (tmp_path / "data").rename(tmp_path / "fgvc_aircraft/data")
    assert read(tmp_path, "fgvc_aircraft") == listing, "the official archive has a folder more"


def test_all_faults_of_aircraft_are_reported_at_once(tmp_path: Path) -> None:
    layouts.fgvc_aircraft(tmp_path)
    (tmp_path / "fgvc_aircraft/images_variant_val.txt").unlink()
    (tmp_path / "fgvc_aircraft/images_variant_test.txt").write_text("0000004 Concorde\n0000005\n")
    with pytest.raises(InputError, match=r"(?s)3 problems.*val\.txt.*'0000004 Concorde'.*'0000005'"):
        read(tmp_path, "fgvc_aircraft")


# ImageNet and its other test sets


def test_the_names_are_clips(shared: Path, tmp_path: Path) -> None:
    official = shared / "splits/coop/imagenet_classnames_from_cross_modal.txt"
    assert list(class_names(official).items()) == list(class_names(tmp_path / "no file").items())
    assert len(wordnet_ids("imagenet")) == 1000


@pytest.mark.parametrize("subset", ["imagenet_a", "imagenet_r"])
def test_a_subset_has_200_of_the_classes_in_their_order(subset: str) -> None:
    ids, everything = wordnet_ids(subset), wordnet_ids("imagenet")
    assert len({*ids}) == 200
    assert [wnid for wnid in everything if wnid in {*ids}] == ids


def test_class_names_are_imagenets(tmp_path: Path) -> None:
    listing = read(tmp_path, "imagenet_r", **layouts.imagenet_r(tmp_path))
    assert len(listing.classes) == 200
    last = wordnet_ids("imagenet_r")[-1]
    assert (f"{last}/0.JPEG", f"the class of {last}", "test") in placed(listing)
    numbered = read(tmp_path, "imagenetv2", **layouts.imagenetv2(tmp_path))
    assert ("10/0.JPEG", f"the class of {wordnet_ids('imagenet')[10]}", "test") in placed(numbered)


def test_a_list_of_names_that_lacks_some_is_refused(tmp_path: Path) -> None:
    spec = layouts.imagenet_a(tmp_path)
    (tmp_path / "imagenet-adversarial/classnames.txt").write_text("n01440764 tench\n")
    with pytest.raises(InputError, match=r"(?s)999 problems.*no name for n01443537"):
        read(tmp_path, "imagenet_a", **spec)


def test_the_pool_is_the_same_in_every_copy(tmp_path: Path) -> None:
    spec = layouts.imagenet(tmp_path)
    listing = read(tmp_path, "imagenet", **spec)
    assert Counter(image.split for image in listing.images) == {"train": 9, "test": 3}
    assert listing.left_out == 6
    wnid = wordnet_ids("imagenet")[0]
    pool = [image.path for image in listing.images if image.path.startswith(f"train/{wnid}")]
    spare = next(file for file in (tmp_path / f"imagenet/images/train/{wnid}").iterdir() if file.name not in str(pool))
    spare.unlink()
    assert read(tmp_path, "imagenet", **spec).images == listing.images
    everything = read(tmp_path, "imagenet", **{**spec, "pool_per_class": None})
    assert (len(everything.images), everything.left_out) == (17, 0)


def test_a_pool_counts_as_the_whole_data_set(tmp_path: Path) -> None:
    spec = layouts.imagenet(tmp_path)
    listing = read(tmp_path, "imagenet", **spec)
    assert list(mistakes(listing)) == []
    assert listing.missing == 1_281_167 - 15 + 50_000 - 3


def test_every_class_folder_that_is_missing_or_too_many_is_named(tmp_path: Path) -> None:
    layouts.imagenet_a(tmp_path)
    touch(tmp_path / "imagenet-adversarial/imagenet-a", ["n00000000/1.jpg", ".cache/x"])
    with pytest.raises(InputError, match=r"(?s)198 problems.*n00000000: ") as error:
        read(tmp_path, "imagenet_a")
    assert all(f"{wnid}: missing" in str(error.value) for wnid in wordnet_ids("imagenet_a")[3:])
    with pytest.raises(InputError, match=r"1 problem\):\n +- n00000000: "):
        read(tmp_path, "imagenet_a", allow_partial=True)


def test_all_folders_with_too_few_images_are_refused(tmp_path: Path) -> None:
    layouts.imagenet_like(tmp_path, "imagenet-rendition/imagenet-r", wordnet_ids("imagenet_r"))
    listing = read(tmp_path, "imagenet_r")
    (mistake,) = mistakes(listing)
    assert mistake.startswith("test: 200, published: 30,000")
    assert list(mistakes(read(tmp_path, "imagenet_r", allow_partial=True))) == []


def test_validation_images_in_one_folder_need_kaggles_table(tmp_path: Path) -> None:
    spec = layouts.imagenet(tmp_path)
    ids = wordnet_ids("imagenet")
    shutil.rmtree(tmp_path / "imagenet/images/val")
    touch(tmp_path / "imagenet/images/val", [f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2)])
    with pytest.raises(InputError, match=r"(?s)images/val .*LOC_val_solution\.csv.*torchvision"):
        read(tmp_path, "imagenet", **spec)
    table = tmp_path / "imagenet/LOC_val_solution.csv"
    rows = [f"ILSVRC2012_val_0000000{i},{ids[i]} 85 1 499 272 {ids[i]} 1 2 3 4 " for i in (1, 2, 3)]
    table.write_bytes("\r\n".join(["ImageId,PredictionString", *rows, ""]).encode())
    test = {image for image in placed(read(tmp_path, "imagenet", **spec)) if image[2] == "test"}
    assert test == {(f"val/ILSVRC2012_val_0000000{i}.JPEG", f"the class of {ids[i]}", "test") for i in (1, 2)}
    table.write_text("image,label\nx,y\n")
    with pytest.raises(InputError, match=r"LOC_val_solution\.csv.*'image'"):
        read(tmp_path, "imagenet", **spec)
