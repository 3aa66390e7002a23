"""The files of a user's own task as if it had been trained: a small encoder, a classifier and a selection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
import yaml
from pictures import TINY, picture, tiny_encoder
from project_root import ROOT
from torch import Tensor
from torch.nn import functional as F

from features.encoding.images import Reading
from features.formats.seal import write_sealed_json
from features.formats.tensors import save_tensors
from features.lookup import find
from features.text.prompts import class_tokens
from pipeline import methods
from pipeline.artifacts.paths import EncoderPaths, weights
from pipeline.artifacts.selection import Candidate, Predicted, Selection
from pipeline.artifacts.task import Header, Rows, save_train
from pipeline.inference.predict import Model
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

GOOD = ["photos/0.png", "photos/1.png", "photos/2.png", "photos/old/3.png", "photos/old/4.png"]  # can be read
NAMES = ("kestrel", "sea_horse", "barn owl", "Brünnich's guillemot")
D = TINY["model_cfg"]["embed_dim"]
OFFSET = 0.75  # of the logits of seen classes
TOWER = tiny.tower(embed_dim=D)
SMALL: dict[str, dict[str, Any]] = {name: {"epochs": 2} for name in ("clip_adapter", "taskres", "clap", "coop")}


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def classes() -> ClassSet:
    """Return three seen classes and one unseen class."""
    tokens = class_tokens(NAMES, context_length=77, prompt=4)
    return ClassSet(NAMES, torch.tensor([True, True, True, False]), unit(4, D), torch.ones(4), tokens, 10.0)


def fitted(method: str) -> Classifier:
    """Return a method's classifier, fitted on random features of all classes."""
    train = LabelledFeatures(unit(12, 2, D, seed=1), torch.arange(12) % 3)
    extra = LabelledFeatures(unit(4, 1, D, seed=2), torch.full((4,), 3))
    settings = find(methods, method, Method).model_validate(SMALL.get(method, {}))
    none = LabelledFeatures(torch.empty(0, 1, D), torch.empty(0).long())
    use = extra if settings.takes_synthetic else None
    return settings.fit(FitData(train, classes(), synthetic=use, validation=none, tower=TOWER, rng=stream(1, "test")))


def selection(method: str) -> Selection:
    plain, balanced = Predicted(seen=90.0, unseen=20.0), Predicted(seen=80.0, unseen=70.0)
    candidate = Candidate(
        run=method,
        plain=plain,
        balanced=balanced,
        offsets={1: OFFSET},
        score=74.7,
        low=70.0,
        high=80.0,
        temperature=0.5,
    )
    return Selection(dataset="mine", task="mine", run=method, seed=1, images=3, confidence=100.0, runs=(candidate,))


def model(folder: Path, method: str) -> Model:
    encoder = tiny_encoder(folder)
    return Model(
        task="mine",
        run=method,
        seed=1,
        encoder=encoder,
        precision="float32",
        classifier=fitted(method),
        reads_patches=False,
        names=NAMES,
        seen=tuple(classes().seen.tolist()),
        temperature=0.5,
        reading=Reading(upright=True),
        offset=OFFSET,
    )


def project(root: Path, method: str = "zero_shot") -> None:
    """Write the files that `predict` and `export` read to `root`; images and a broken one to `root/photos`."""
    trained_model = model(root / "encoder", method)
    sha = trained_model.encoder.weights_sha256
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["grid"] |= {"encoder": "tiny", "datasets": ["mine"], "tasks": ["mine"]}
    params["encoders"]["tiny"] = {"model": f"local-dir:{root / 'encoder'}", "pretrained": "random:0"}
    params["compute"]["device"] = "cpu"
    params["data"]["sets"]["mine"] = {"reader": "image_folder", "path": "mine"}
    params["tasks"]["mine"] = {"protocol": "own_images"}
    (root / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    cell = EncoderPaths(root / "artifacts/tiny").cell("mine", "mine")
    header = Header("mine", "mine", "mine", "own_images", None, None, "tiny", sha)
    no_rows = Rows(np.empty((0, 1, D), np.float16), np.empty(0, np.int64), np.empty(0, np.int64))
    seen, unseen = (classes().subset(ids) for ids in (classes().seen_ids, classes().unseen_ids))
    save_train(cell.train, header, seen, {1: no_rows})
    save_train(cell.unseen, header, unseen, {})
    save_tensors(trained_model.classifier.state(), weights(cell.fitted(method), 1), weights_sha256=sha)
    write_sealed_json(cell.selection, selection(method).model_dump(mode="json"))
    (root / "photos/old").mkdir(parents=True)
    for i in range(5):
        picture(i).save(root / "photos" / ("old" * (i > 2)) / f"{i}.png")
    (root / "photos/broken.jpg").write_bytes(b"no image")
