"""Patch tokens: in the space of the features, stored only on request, and loaded only for methods that read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pictures import TINY, contents, job, make_images, tiny_encoder
from project_root import ROOT
from small_files import HEADER, TOWER, rows
from torch.nn import functional as F

from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.patch_tokens import encode_with_patches, patches_per_image
from features.image_store import writer as image_store_writer
from features.image_store.store import ImageStore
from pipeline.artifacts.task import EvalRows, Rows, load_test, load_train, save_test, save_train
from pipeline.steps.build_task import _take

COUNTS = {"train": 20, "val": 0, "test": 9}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def built(folder: Path, **vision: Any) -> Encoder:
    config = json.loads(json.dumps(TINY))
    config["model_cfg"]["vision_cfg"] = {"image_size": 32, **vision}
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_encoder("x", EncoderSpec(model=f"local-dir:{folder}", pretrained="random:0"), "cpu")


def crops(encoder: Encoder, count: int = 3) -> torch.Tensor:
    height, width = encoder.preprocess.size
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_patches_of_a_vit_are_its_last_tokens_normed_and_projected(encoder: Encoder) -> None:
    features, patches = encode_with_patches(encoder, crops(encoder))
    assert patches.shape == (3, 4, 16)
    assert patches_per_image(encoder) == 4
    assert torch.equal(features, encoder.encode_crops(crops(encoder)))
    visual: Any = encoder.model.visual
    with torch.inference_mode():
        x = visual.transformer(visual._embeds(encoder.normalize(crops(encoder))))
        torch.testing.assert_close(patches, visual.ln_post(x)[:, 1:] @ visual.proj)


def test_patches_of_a_resnet_are_the_other_queries_of_its_attention_pool(tmp_path: Path) -> None:
    encoder = built(tmp_path / "rn", layers=[1, 1, 1, 1], width=8, head_width=64)
    features, patches = encode_with_patches(encoder, crops(encoder))
    assert torch.equal(features, encoder.encode_crops(crops(encoder)))
    visual: Any = encoder.model.visual
    pool = visual.attnpool
    with torch.inference_mode():
        grid = visual.forward_intermediates(encoder.normalize(crops(encoder)), indices=1)["image_intermediates"][-1]
        x = grid.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x]) + pool.positional_embedding[:, None]
        every, _ = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], pool.num_heads, None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
            pool.c_proj.weight, pool.c_proj.bias, training=False, need_weights=False, use_separate_proj_weight=True,
            q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        )  # fmt: skip
    torch.testing.assert_close(torch.cat([features[None], patches.transpose(0, 1)]), every, atol=1e-5, rtol=1e-4)


def test_patches_of_an_averaging_network_have_its_feature_as_mean() -> None:
    liteclip = ROOT / "assets" / "liteclip"
    encoder = load_encoder("liteclip", EncoderSpec(model=f"local-dir:{liteclip}"), "cpu")
    features, patches = encode_with_patches(encoder, crops(encoder, 2))
    assert patches.shape == (2, 49, 384)
    assert torch.equal(features, encoder.encode_crops(crops(encoder, 2)))
    torch.testing.assert_close(patches.mean(1), features, atol=1e-4, rtol=1e-4)


def test_an_unsupported_image_tower_is_an_error(tmp_path: Path) -> None:
    pooled_first = built(tmp_path / "v", layers=1, width=32, head_width=16, patch_size=16, final_ln_after_pool=True)
    with pytest.raises(InputError, match=r"'x'.*VisionTransformer.*patch_tokens: false"):
        patches_per_image(pooled_first)


def test_stored_patches_are_those_of_the_centre_crop(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_store_writer, "IMAGES_WITH_PATCHES", 8)  # several shards
    index = make_images(tmp_path / "images", COUNTS)  # type: ignore[arg-type]
    for name, patches in {"with": 4, "without": 0}.items():
        extract(job(tmp_path / "images", index, encoder, patches=patches), tmp_path / name, tmp_path / "scratch")
    log = capfd.readouterr().err
    assert log.index("patch tokens") < log.index("extract with: 29 images")
    assert log.count("patch tokens") == 1
    assert re.search(r"29 images.*0\.0 MB.*4 of 16 float16", log)
    stores = ImageStore.open(tmp_path / "with"), ImageStore.open(tmp_path / "without")
    stores[0].verify()
    some = np.array([17, 2])
    patches = stores[0].patches("train", some)
    assert patches is not None
    assert patches.shape == (2, 4, 16)
    extract(job(tmp_path / "images", index, encoder, patches=4, batch=3), tmp_path / "again", tmp_path / "scratch")
    alone = ImageStore.open(tmp_path / "again").patches("train", some)
    np.testing.assert_allclose(
        patches.astype(np.float32), alone, atol=2e-3
    )  # one image a pass: patches and views must not be mixed up
    assert stores[1].patches("train", some) is None
    assert "patches" not in (tmp_path / "without/meta.json").read_text()
    assert not [name for name in contents(tmp_path / "without") if "patches" in name]
    for split in ("train", "test"):
        with_, without = (store.load(split).features for store in stores)  # type: ignore[arg-type]
        np.testing.assert_allclose(with_.astype(np.float32), without.astype(np.float32), atol=2e-3)
    assert "4 patch tokens of each centre crop" in stores[0].info()
    taken = _take(stores[0], "train", some, dict.fromkeys(range(3), 0))
    assert np.array_equal(taken.patches, patches)  # type: ignore[arg-type]


def test_a_task_loads_patches_only_on_request(tmp_path: Path) -> None:
    def patched(count: int) -> Rows:
        plain = rows(count, 1)
        return Rows(plain.features, plain.labels, plain.rows, np.full((count, 4, 8), count, np.float16))

    save_train(tmp_path / "train", HEADER, tiny.classes(TOWER), {1: patched(8)})
    save_test(
        tmp_path / "test",
        HEADER,
        [EvalRows("base", "micro", np.arange(3), patched(5))],
        tiny.NAMES,
        [True] * len(tiny.NAMES),
    )
    train = load_train(tmp_path / "train").seed(1, patches=True)
    assert train.patches is not None
    assert torch.equal(train.patches, torch.full((8, 4, 8), 8, dtype=torch.float16))
    assert load_train(tmp_path / "train").seed(1).patches is None
    assert load_test(tmp_path / "test", patches=True)[1][0].rows.patches is not None
    assert load_test(tmp_path / "test")[1][0].rows.patches is None


def test_a_task_without_patches_is_an_error_that_names_the_parameter(tmp_path: Path) -> None:
    save_train(tmp_path / "train", HEADER, tiny.classes(TOWER), {1: rows(8, 1)})
    save_test(
        tmp_path / "test", HEADER, [EvalRows("base", "micro", np.arange(3), rows(5, 1))], ["cat", "dog"], [True, True]
    )
    with pytest.raises(InputError, match=r"train .*extract\.patch_tokens: true"):
        load_train(tmp_path / "train").seed(1, patches=True)
    with pytest.raises(InputError, match=r"test .*extract\.patch_tokens: true"):
        load_test(tmp_path / "test", patches=True)
