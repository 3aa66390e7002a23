"""Formulas of the methods of SHIP's tables against NumPy: zero-shot, CLIP-Adapter, Tip-Adapter, CoOp; and batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from small_task import CLASSES, NO_VALIDATION, SYNTHETIC, TOWER, TRAIN, VALIDATION, fit, fit_data
from torch.nn import functional as F

from features.errors import InputError
from features.text.prompts import format_prompts
from features.text.tokenizer import CLIP
from pipeline.methods._cache_model import CacheClassifier, build_cache
from pipeline.methods._prompt_learning import class_weights
from pipeline.methods._templates import imagenet_templates
from pipeline.methods._validation import budgeted, first_per_label
from pipeline.methods.clip_adapter import adapt
from pipeline.methods.coop import CoOp
from pipeline.methods.gda import Gda
from pipeline.methods.taskres import TaskRes
from pipeline.methods.tip_adapter import TipAdapter
from pipeline.training.data import ClassSet
from pipeline.training.loop import Batches, cosine, index_by_label, trained_classes, warm_cosine
from pipeline.training.seeds import stream


def test_zero_shot_is_equation_1() -> None:
    f, w = VALIDATION.centre.numpy(), CLASSES.text_features.numpy()
    cos = (f @ w.T) / (np.linalg.norm(f, axis=1)[:, None] * np.linalg.norm(w, axis=1))
    ours = fit("zero_shot").logits(VALIDATION.centre, torch.arange(6)).numpy()
    np.testing.assert_allclose(ours, 20.0 * cos, rtol=1e-5, atol=1e-5)


def test_a_prompt_ensemble_is_the_normalized_mean_of_unit_features() -> None:
    texts = ["a photo of a {}.", "{} in the snow."]
    each = [TOWER.encode(CLIP.tokenize(format_prompts(text, CLASSES.names), room=77)).numpy() for text in texts]
    mean = np.mean([_unit(found) for found in each], axis=0)
    ours = fit("zero_shot", templates=texts).state()["weights"].numpy()
    np.testing.assert_allclose(ours, _unit(mean), rtol=1e-5, atol=1e-6)


def test_clips_ensembles_and_templates_without_exactly_one_place_for_the_name() -> None:
    assert len(imagenet_templates("imagenet_80")) == 80
    assert len(imagenet_templates("imagenet_7")) == 7
    assert imagenet_templates("imagenet_8") == [*imagenet_templates("imagenet_7"), "a photo of a {}."]
    assert all(text.count("{}") == 1 for text in imagenet_templates("imagenet_80"))
    assert fit("zero_shot", templates="imagenet_7").state()["weights"].shape == (6, 32)
    with pytest.raises(InputError, match=r"methods\.zero_shot\.templates") as caught:
        fit("zero_shot", templates=["a photo", "{} {}", "fine {}"])
    assert "'a photo'" in str(caught.value)
    assert "'fine {}'" not in str(caught.value)


def test_templates_change_all_text_features_but_those_of_another_data_set() -> None:
    texts = ["a photo of a {}.", "itap of a {}."]
    raw = np.mean([TOWER.encode(CLIP.tokenize(format_prompts(t, CLASSES.names), room=77)).numpy() for t in texts], 0)
    changed = TaskRes(templates=texts).with_templates(fit_data()).classes
    np.testing.assert_allclose(changed.unnormalized_text.numpy(), raw, rtol=1e-4, atol=1e-5)

    unit = Gda(templates=texts).with_templates(fit_data()).classes.text_features
    assert not torch.allclose(unit, changed.text_features, atol=1e-4)
    np.testing.assert_allclose(unit.numpy(), fit("zero_shot", templates=texts).state()["weights"].numpy(), rtol=1e-5)

    transferred = TaskRes(templates=texts).with_templates(replace(fit_data(), transfer=True)).classes
    assert torch.equal(transferred.text_features[:4], changed.text_features[:4])
    assert torch.equal(transferred.text_features[4:], CLASSES.text_features[4:])
    assert torch.equal(transferred.text_norms[4:], CLASSES.text_norms[4:])


def test_clip_adapter_mix_is_equations_3_to_5() -> None:
    rng = np.random.default_rng(0)
    f, down, up = rng.normal(size=(3, 8)), rng.normal(size=(2, 8)), rng.normal(size=(8, 2))
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    mixed = 0.2 * np.maximum(np.maximum(f @ down.T, 0) @ up.T, 0) + 0.8 * f
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    ours = adapt(*(torch.from_numpy(a) for a in (f, down, up)), torch.tensor(0.2, dtype=torch.float64))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)


def test_clip_adapters_ratio_is_the_best_on_validation() -> None:
    """The result equals, bit for bit, training with that ratio alone; the first ratio wins a tie."""
    noisy = tiny.features([0, 1, 2, 3], 25, 1, noise=0.25)
    ids, ratios = CLASSES.seen_ids, [0.0, 0.2, 0.6, 1.0]
    alone = {ratio: fit("clip_adapter", ratio=ratio, validation=noisy) for ratio in ratios}
    right = {r: int((one.logits(noisy.centre, ids).argmax(1) == noisy.labels).sum()) for r, one in alone.items()}
    best = max(right, key=lambda ratio: right[ratio])
    assert len({*right.values()}) > 1, "otherwise the test shows nothing"
    for order in (ratios, ratios[::-1]):
        found = fit("clip_adapter", ratios=order, validation=noisy)
        wanted = next(r for r in order if right[r] == right[best])
        assert float(found.state()["ratio"]) == pytest.approx(wanted)
        assert all(torch.equal(found.state()[key], tensor) for key, tensor in alone[wanted].state().items())


def test_without_validation_the_fixed_ratio_is_used() -> None:
    found = fit("clip_adapter", ratio=0.7, ratios=[0.2, 0.4], validation=NO_VALIDATION)
    assert float(found.state()["ratio"]) == pytest.approx(0.7)


def test_tip_adapter_logits_are_equation_6() -> None:
    rng = np.random.default_rng(0)
    f, keys, w = (_unit(rng.normal(size=size)) for size in ((4, 8), (5, 8), (3, 8)))
    labels = np.array([0, 1, 1, 2, 0])
    values = np.eye(3)[labels]
    expected = 20 * f @ w.T + 1.5 * np.exp(-5.5 * (1 - f @ keys.T)) @ values
    cache = CacheClassifier(
        torch.tensor(20.0),
        torch.ones(3, dtype=torch.bool),
        weights=torch.from_numpy(w),
        keys=torch.from_numpy(keys),
        key_labels=torch.from_numpy(labels),
        alpha=torch.tensor(1.5),
        beta=torch.tensor(5.5),
    )
    np.testing.assert_allclose(cache.logits(torch.from_numpy(f), torch.arange(3)).numpy(), expected, rtol=1e-6)


def test_keys_are_the_normalized_mean_of_raw_views() -> None:
    raw = TRAIN.features.numpy().mean(1)
    keys = build_cache(fit_data(), 1.0, 1.0).keys.numpy()
    np.testing.assert_allclose(keys, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5)


def test_an_unseen_class_gets_as_many_keys_as_a_seen_one_has_images() -> None:
    cache = build_cache(fit_data(SYNTHETIC), 1.0, 1.0)
    assert np.bincount(cache.key_labels.numpy()).tolist() == [8] * 6
    assert first_per_label(torch.tensor([1, 0, 1, 1]), 2).tolist() == [True, True, True, False]


def test_a_budget_leaves_as_many_validation_images_per_class_as_there_are_shots() -> None:
    noisy = tiny.features([0, 1, 2, 3], 25, 1, noise=0.25)

    def counts(most: int | None) -> list[int]:
        return np.bincount(budgeted(fit_data(validation=noisy), most).labels.numpy()).tolist()

    assert counts(4) == [4] * 4
    assert counts(16) == [8] * 4  # 8 shots
    assert counts(None) == [25] * 4
    one, same, other = (budgeted(fit_data(seed=seed, validation=noisy), 4).features for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    rows = {tuple(row) for row in noisy.features[:, 0].tolist()}
    assert {tuple(row) for row in one[:, 0].tolist()} <= rows


def test_the_search_equals_scoring_every_point() -> None:
    settings = TipAdapter(alpha_points=4, beta_points=5, alpha_max=3.0, beta_max=7.0)
    noisy = tiny.features([0, 1, 2, 3], 25, 1, noise=0.25)
    cache = build_cache(fit_data(), 1.0, 1.0)
    ids = CLASSES.seen_ids
    tried = {}
    for beta in [0.1 + i * 6.9 / 5 for i in range(5)]:
        for alpha in [0.1 + i * 2.9 / 4 for i in range(4)]:
            point = CacheClassifier(**{**cache.state(), "alpha": torch.tensor(alpha), "beta": torch.tensor(beta)})
            tried[beta, alpha] = int((point.logits(noisy.centre, ids).argmax(1) == noisy.labels).sum())
    best = max(tried, key=lambda point: tried[point])
    found = settings.search(cache, noisy, ids)
    assert (float(found.beta), float(found.alpha)) == pytest.approx(best)


def test_without_validation_the_search_changes_nothing() -> None:
    cache = build_cache(fit_data(), 1.0, 1.0)
    assert TipAdapter().search(cache, NO_VALIDATION, CLASSES.seen_ids) is cache


def test_coop_starts_from_its_words_and_rejects_a_wrong_number_of_them() -> None:
    start = CoOp().initial_context(TOWER, stream(0, "x"), 6)
    assert torch.equal(start[0], TOWER.token_embedding.weight[[320, 1125, 539, 320]])
    with pytest.raises(InputError, match=r"methods\.coop: .* 4 tokens long, but context is 8"):
        CoOp(context=8).initial_context(TOWER, stream(0, "x"), 6)
    assert CoOp(context=8, init=None).initial_context(TOWER, stream(0, "x"), 6).shape == (1, 8, 16)
    assert CoOp(class_specific=True).initial_context(TOWER, stream(0, "x"), 6).shape == (6, 4, 16)


def test_coop_trains_60_vectors_as_in_cocoops_table_5_and_rejects_names_that_are_too_long_for_them() -> None:
    assert fit("coop", context=60, init=None, epochs=1).state()["context"].shape == (1, 60, 16)
    long = tiny.classes(TOWER, names=(*tiny.NAMES[:5], "a very long name of many words, " * 3))
    with pytest.raises(InputError, match=r"\b8\d tokens.*\b77\b"):
        fit("coop", context=60, init=None, epochs=1, classes=long)


@pytest.mark.parametrize(
    ("position", "template"),
    [("end", "a photo of the {}."), ("middle", "a photo {} of the."), ("front", "{} a photo of the.")],
)
def test_the_class_name_has_the_position_of_the_setting(position: str, template: str) -> None:
    """With the embeddings of words as context, the prompt equals the sentence (CoOp Eq. 3 and 4)."""
    context = CoOp(init="a photo of the").initial_context(TOWER, stream(0, "x"), 6)
    names = [name.replace("_", " ") for name in CLASSES.names]
    expected = F.normalize(TOWER.encode(CLIP.tokenize([template.format(name) for name in names], room=77)), dim=-1)
    found = class_weights(TOWER, context, CLASSES.tokens, position)  # type: ignore[arg-type]
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_each_class_reads_its_own_class_specific_context(position: str) -> None:
    """Equation 5: each class reads its own context, and only trained classes can be scored."""
    settings = {"class_specific": True, "class_token_position": position, "epochs": 3}
    assert fit("coop", **settings).scored.tolist() == CLASSES.seen.tolist()
    assert bool(fit("coop", SYNTHETIC, **settings).scored.all())
    own = CoOp(class_specific=True, init=None).initial_context(TOWER, stream(0, "x"), 6)
    together = class_weights(TOWER, own, CLASSES.tokens[:, None], position)[:, 0]  # type: ignore[arg-type]
    for i in range(6):
        alone = class_weights(TOWER, own[i : i + 1], CLASSES.tokens[i : i + 1], position)  # type: ignore[arg-type]
        torch.testing.assert_close(together[i], alone[0, 0])


def test_the_two_coop_schedules() -> None:
    assert [cosine(4)(step) for step in range(4)] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    batches = Batches(TRAIN, None, epochs=4, batch=16, synthetic_ratio=1.0, rng=stream(0, "x"))  # 2 steps an epoch
    rate = warm_cosine(batches, 0.002)
    assert [rate(step) for step in range(8)] == pytest.approx(
        [0.005] * 2 + [1] * 2 + [0.853553] * 2 + [0.5] * 2,
        abs=1e-6,  # Dassl's, epoch by epoch
    )


def test_batches_have_each_image_once_per_epoch_and_synthetic_features() -> None:
    batches = Batches(TRAIN, SYNTHETIC, epochs=2, batch=12, synthetic_ratio=0.5, rng=stream(0, "x"))
    sizes, seen = [], []
    for features, labels in batches:
        real = labels < 4
        sizes.append((int(real.sum()), int((~real).sum())))
        seen += [row.tolist() for row in features[real]]
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    assert sizes == [(12, 6), (12, 6), (8, 4)] * 2
    assert batches.steps == 6
    views = {tuple(view) for image in TRAIN.unit.tolist() for view in image}
    assert all(tuple(row) in views for row in seen)


def test_batches_drop_the_incomplete_batch_only_if_there_is_a_full_one() -> None:
    def sizes(batch: int) -> list[int]:
        batches = Batches(TRAIN, None, 1, batch, synthetic_ratio=0.0, rng=stream(0, "x"), drop_last=True)
        return [len(labels) for _, labels in batches]

    assert sizes(12) == [12, 12]  # of 32 images
    assert sizes(32) == [32]
    assert sizes(50) == [32]


def test_mixed_views_fill_a_step_with_several_views_of_an_image() -> None:
    """32 images in 3 views: one step of 50 of the 96, as in CLAP's code, and no view twice."""
    batches = Batches(TRAIN, None, 2, 50, synthetic_ratio=0.0, rng=stream(0, "x"), drop_last=True, mix_views=True)
    epochs = list(batches)
    assert [len(labels) for _, labels in epochs] == [50, 50]
    label_of = dict(zip(map(tuple, TRAIN.unit.flatten(0, 1).tolist()), TRAIN.labels.repeat_interleave(3), strict=True))
    for features, labels in epochs:
        rows = [tuple(row) for row in features.tolist()]
        assert len(set(rows)) == 50
        assert [int(label_of[row]) for row in rows] == labels.tolist()


def test_the_centre_crop_is_left_out_only_if_there_are_other_views() -> None:
    assert torch.equal(TRAIN.augmented().features, TRAIN.features[:, 1:])
    assert torch.equal(VALIDATION.augmented().features, VALIDATION.features)
    without = TipAdapter(centre_crop=False).fit(fit_data(validation=NO_VALIDATION)).keys
    torch.testing.assert_close(without, F.normalize(TRAIN.features[:, 1:].mean(1), dim=-1))


def test_the_loss_ranges_over_seen_or_over_all_classes() -> None:
    classes = ClassSet(**{**vars(CLASSES), "seen": torch.tensor([True, False, True, False, False, False])})
    ids = trained_classes(classes, None)
    assert ids.tolist() == [0, 2]
    assert index_by_label(ids, 6).tolist() == [0, -1, 1, -1, -1, -1]
    assert trained_classes(classes, SYNTHETIC).tolist() == list(range(6))


def test_a_diverged_training_raises_an_error() -> None:
    with pytest.raises(InputError, match="learning_rate"):
        CoOp(learning_rate=1e30, epochs=3).fit(fit_data())


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=1, keepdims=True)
