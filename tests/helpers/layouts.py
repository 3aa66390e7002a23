"""A miniature of each reader's official layout, with real file names and split formats; a new reader adds its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from small_archives import write_tar

import features.datasets
from features.lookup import names
from features.splits.imagenet_classes import wordnet_ids

Spec = dict[str, Any]  # the data set's options in `params.yaml`, without `reader`
Split = dict[str, list[list[Any]]]


def touch(root: Path, paths: Iterable[str]) -> None:
    """Write files that hold their own path."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())


def split_of(**classes: Sequence[str]) -> Split:
    """Return a `split_zhou` file: of the images of each class the first is train, the second val, the rest test."""
    rows = [(path, label, name) for label, name in enumerate(classes) for path in classes[name]]
    first = {name: paths[0] for name, paths in classes.items()}
    second = {name: paths[1] for name, paths in classes.items() if len(paths) > 1}
    return {
        "train": [[path, label, name] for path, label, name in rows if path == first[name]],
        "val": [[path, label, name] for path, label, name in rows if path == second.get(name)],
        "test": [[path, label, name] for path, label, name in rows if path not in (first[name], second.get(name))],
    }


def zhou(folder: Path, images: str, name: str, split: Split) -> Spec:
    """Write a folder as in CoOp's instructions."""
    touch(folder / images, [row[0] for rows in split.values() for row in rows])
    (folder / f"split_zhou_{name}.json").write_text(json.dumps(split), encoding="utf-8")
    return {}


CALTECH = {
    "train": [["Faces/image_0001.jpg", 0, "face"], ["Leopards/image_0001.jpg", 1, "leopard"]],
    "val": [["Faces/image_0002.jpg", 0, "face"]],
    "test": [["Leopards/image_0002.jpg", 1, "leopard"]],
}
CARS = split_of(
    **{
        "2012 BMW M3 coupe": ["cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg"],
        "1994 Audi V8": ["cars_train/00003.jpg", "cars_train/00004.jpg", "cars_test/00002.jpg"],
    }
)
ACTIONS = split_of(
    **{
        name: [f"{name}/v_{name.replace('_', '')}_g0{i}_c01.jpg" for i in (8, 9, 1)]
        for name in ("Apply_Eye_Makeup", "Yo_Yo")
    }
)


def caltech101(root: Path) -> Spec:
    touch(root / "caltech-101/101_ObjectCategories", ["BACKGROUND_Google/image_0001.jpg"])  # an extra folder
    return zhou(root / "caltech-101", "101_ObjectCategories", "Caltech101", CALTECH)


def oxford_pets(root: Path) -> Spec:
    split = split_of(abyssinian=[f"Abyssinian_{i}.jpg" for i in (1, 2, 3)], pug=[f"pug_{i}.jpg" for i in (1, 2, 3)])
    return zhou(root / "oxford_pets", "images", "OxfordPets", split)


def stanford_cars(root: Path) -> Spec:
    return zhou(root / "stanford_cars", "", "StanfordCars", CARS)


def flowers102(root: Path) -> Spec:
    names = {"bird of paradise": range(1, 4), "colt's foot": range(4, 7)}
    split = split_of(**{name: [f"image_{i:05}.jpg" for i in numbers] for name, numbers in names.items()})
    return zhou(root / "oxford_flowers", "jpg", "OxfordFlowers", split)


def food101(root: Path) -> Spec:
    split = split_of(**{name: [f"{name}/{i}.jpg" for i in (7, 8, 9)] for name in ("apple_pie", "crème_brûlée")})
    return zhou(root / "food-101", "images", "Food101", split)


def sun397(root: Path) -> Spec:
    split = split_of(
        abbey=[f"a/abbey/sun_a{i}.jpg" for i in range(3)],
        **{"indoor chapel": [f"c/chapel/indoor/sun_b{i}.jpg" for i in range(3)]},
    )
    return zhou(root / "sun397", "SUN397", "SUN397", split)


def dtd(root: Path) -> Spec:
    split = split_of(**{name: [f"{name}/{name}_000{i}.jpg" for i in range(3)] for name in ("banded", "zigzagged")})
    return zhou(root / "dtd", "images", "DescribableTextures", split)


def eurosat(root: Path) -> Spec:
    split = split_of(
        **{
            "Annual Crop Land": [f"AnnualCrop/AnnualCrop_{i}.jpg" for i in range(3)],
            "Sea or Lake": [f"SeaLake/SeaLake_{i}.jpg" for i in range(3)],
        }
    )
    return zhou(root / "eurosat", "2750", "EuroSAT", split)


def ucf101(root: Path) -> Spec:
    return zhou(root / "ucf101", "UCF-101-midframes", "UCF101", ACTIONS)


AIRCRAFT = {"train": ["0000001 F/A-18", "0000002 DC-9-30"], "val": ["0000003 F/A-18"], "test": ["0000004 DC-9-30"]}


def fgvc_aircraft(root: Path) -> Spec:
    folder = root / "fgvc_aircraft"
    touch(folder / "images", [f"000000{i}.jpg" for i in (1, 2, 3, 4, 5)])
    (folder / "variants.txt").write_bytes(b"DC-9-30\r\nF/A-18\r\n")
    for part, lines in AIRCRAFT.items():
        (folder / f"images_variant_{part}.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return {}


def names_of(ids: Sequence[str]) -> str:
    """Return CoOp's `classnames.txt` with invented names, as an editor on Windows saves it."""
    return "".join(f"{wnid} the class of {wnid}\r\n" for wnid in ids)


def imagenet_like(root: Path, path: str, folders: Iterable[str], *, images: int = 1) -> Spec:
    """Write class folders, and `classnames.txt` beside them."""
    touch(root / path, [f"{folder}/{i}.JPEG" for folder in folders for i in range(images)])
    file = root / path.split("/", maxsplit=1)[0] / "classnames.txt"
    file.write_bytes(names_of(wordnet_ids("imagenet")).encode())
    return {"allow_partial": True}


def imagenet(root: Path) -> Spec:
    ids = wordnet_ids("imagenet")[:3]
    imagenet_like(root, "imagenet/images/train", ids, images=5)
    return {**imagenet_like(root, "imagenet/images/val", ids), "pool_per_class": 3}


def imagenetv2(root: Path) -> Spec:
    return imagenet_like(root, "imagenetv2/imagenetv2-matched-frequency-format-val", ["0", "10", "999"])


def imagenet_sketch(root: Path) -> Spec:
    return imagenet_like(root, "imagenet-sketch/sketch", wordnet_ids("imagenet")[:3])


def imagenet_a(root: Path) -> Spec:
    touch(root / "imagenet-adversarial/imagenet-a", ["README.txt"])
    return imagenet_like(root, "imagenet-adversarial/imagenet-a", wordnet_ids("imagenet_a")[:3])


def imagenet_r(root: Path) -> Spec:
    return imagenet_like(root, "imagenet-rendition/imagenet-r", wordnet_ids("imagenet_r")[-3:])


def write_mat(file: Path, values: dict[str, list[int] | list[str]], *, hdf5: bool = False) -> None:
    """Write columns of numbers and cell arrays of texts as MATLAB does, in version 5 or 7.3."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not hdf5:
        columns = {
            name: np.array(value, object if isinstance(value[0], str) else np.uint16)[:, None]
            for name, value in values.items()
        }
        scipy.io.savemat(file, columns)
        return
    with h5py.File(file, "w", userblock_size=512) as mat:
        for name, value in values.items():
            if isinstance(value[0], str):
                texts = [np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None] for text in map(str, value)]
                cells = [mat.create_dataset(f"#refs#/{name}{i}", data=text).ref for i, text in enumerate(texts)]
                mat.create_dataset(name, data=np.array([cells], h5py.ref_dtype), dtype=h5py.ref_dtype)
            else:
                mat[name] = np.array([value], np.float64)
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file")


LOCS: dict[str, list[int] | list[str]] = {"trainval_loc": [2, 3], "test_seen_loc": [1], "test_unseen_loc": [5, 4]}


def xian(root: Path, images: str, mats: str, files: Sequence[str], *, hdf5: bool = False) -> Spec:
    """Write five images of a seen and an unseen class, and their `.mat` files."""
    folder = root / images
    marker = folder.name
    touch(folder, files)
    paths = [f"/BS/Deep_Fragments/work/MSc/data//{marker}/{file}" for file in files]
    write_mat(root / mats / "res101.mat", {"image_files": paths, "labels": [2, 2, 2, 1, 1]}, hdf5=hdf5)
    write_mat(root / mats / "att_splits.mat", LOCS, hdf5=hdf5)
    return {}


def folders_of(first: str, second: str) -> list[str]:
    return [f"{first}/{i}.jpg" for i in range(3)] + [f"{second}/{i}.jpg" for i in range(2)]


def cub200(root: Path) -> Spec:
    files = folders_of("002.Laysan_Albatross", "001.Black_footed_Albatross")
    return xian(root, "CUB_200_2011/images", "xlsa17/data/CUB", files)


def awa2(root: Path) -> Spec:
    files = folders_of("antelope", "blue+whale")
    return xian(root, "Animals_with_Attributes2/JPEGImages", "xlsa17/data/AWA2", files, hdf5=True)


def sun(root: Path) -> Spec:
    return xian(root, "SUN/images", "SUN", folders_of("a/airport/terminal", "a/abbey"))


def flo(root: Path) -> Spec:
    files = [f"image_{i:05}.jpg" for i in (1, 2, 3, 6734, 6735)]  # 77 passion flower, 1 pink primrose
    return xian(root, "oxford_flowers/jpg", "xlsa17/data/FLO", files)


def imagenet_sample(root: Path) -> Spec:
    ids = wordnet_ids("imagenet")
    touch(root / "imagenet-sample", [f"{ids[0]}_tench.JPEG", f"{ids[2]}_great_white_shark.JPEG"])
    (root / "imagenet-sample/classnames.txt").write_bytes(names_of(ids).encode())
    return {"allow_partial": True}


def image_folder(root: Path) -> Spec:
    touch(root / "mine", [f"{name}/{i}.jpg" for name in ("okapi", "quokka") for i in range(5)])
    return {"path": "mine", "unseen": ["numbat"]}


def image_shards(root: Path) -> Spec:
    images = {f"{name}/{i}.jpg": f"{name} {i}".encode() for name in ("okapi", "quokka") for i in range(5)}
    write_tar(root / "mine/000000.tar", images)
    return {"path": "mine", "unseen": ["numbat"]}


def image_table(root: Path) -> Spec:
    touch(root / "mine", [f"{i}.jpg" for i in range(10)])
    lines = ["path,label", *(f"{i}.jpg,{name}" for i, name in enumerate(["okapi", "quokka"] * 5))]
    (root / "mine/labels.csv").write_bytes("\r\n".join(lines).encode())
    return {"path": "mine", "table": "labels.csv", "unseen": ["numbat"]}


def twemoji(root: Path) -> Spec:
    root.mkdir(exist_ok=True)
    return {}


# The function with a reader's name writes its miniature.
TREES: dict[str, Callable[[Path], Spec]] = {
    name: globals()[name] for name in names(features.datasets) if name in globals()
}


def miniature(name: str, root: Path) -> Spec:
    """Write the miniature of a reader's layout below `root`; return its options."""
    assert name in TREES, (
        f"tests/layouts.py has no miniature for the reader {name!r}: add a function `{name}(root)` that writes a few "
        "files under their real names and returns the options"
    )
    return TREES[name](root)
