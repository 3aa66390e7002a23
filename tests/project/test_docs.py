"""The pages' links, examples, settings and commands: what a page says can be done, can be done."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click import ClickException
from pages import PAGES, calls, example, put_mushrooms, with_settings_of
from project_root import ROOT
from typer.main import get_command

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.errors import InputError
from features.formats.tensors import load_tensors, save_tensors
from features.listing_checks import mistakes
from features.lookup import find
from pipeline import api
from pipeline.cli.app import app
from pipeline.cli.check import check
from pipeline.cli.data_list import details, reader_of
from pipeline.config import params
from pipeline.generators.base import FittedGenerator, Generator
from pipeline.methods.base import FitData, Method
from pipeline.protocols.base import ClassCounts, Plan, Protocol
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

EXAMPLES = {
    "add_a_dataset": (features.datasets, "mushrooms"),
    "add_a_generator": (pipeline.generators, "linear_map"),
    "add_a_method": (pipeline.methods, "class_means"),
    "add_a_protocol": (pipeline.protocols, "every_nth"),
}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the example of each page where the project finds it by its name."""
    for page, (package, name) in EXAMPLES.items():
        folder = tmp_path / page
        folder.mkdir()
        (folder / f"{name}.py").write_text(example(page), encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])


def shipped_with(page: str) -> str:
    """Return the shipped params.yaml with the lines that a page adds."""
    return with_settings_of(page, params.read(ROOT / "params.yaml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "results"], ids=lambda page: page.name)
def test_no_line_of_prose_is_longer_than_120_columns(page: Path) -> None:
    """Tables, code and diagrams may be wider."""
    prose = re.sub(
        r"^```.*?^```$|^\|.*?$|<!--.*?<!-- end.*?-->", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert [line for line in prose.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_pages_name_the_files_of_their_examples(page: str) -> None:
    package, name = EXAMPLES[page]
    path = f"{package.__name__.replace('.', '/')}/{name}.py"
    assert f"`{path}`" in (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_are_short(page: str) -> None:
    assert len(example(page).splitlines()) <= (60 if page == "add_a_method" else 80)
    assert len((ROOT / f"docs/{page}.md").read_text(encoding="utf-8").splitlines()) <= 140


@pytest.mark.usefixtures("add")
@pytest.mark.parametrize("page", EXAMPLES)
def test_the_settings_of_the_examples_are_valid(page: str) -> None:
    check(params.parse_text(shipped_with(page)))


@pytest.mark.usefixtures("add")
@pytest.mark.parametrize(
    ("page", "right", "wrong"),
    [
        ("add_a_method", "mix: 0.5", "mix: 2"),
        ("add_a_method", "mix: 0.5", "mixture: 0.5"),
        ("add_a_method", "zero_shot, class_means", "zero_shot, class_mean"),
        ("add_a_generator", "epochs: 20", "epochs: 0"),
        ("add_a_generator", "ship, linear_map", "ship, linear"),
        ("add_a_protocol", "every: 3", "every: 1"),
        ("add_a_protocol", "protocol: every_nth", "protocol: every"),
    ],
)
def test_wrong_settings_of_the_examples_are_rejected_by_name(page: str, right: str, wrong: str) -> None:
    text = shipped_with(page)
    assert text.count(right) >= 1
    text = text.replace("tasks: [base_to_new]", "tasks: [every_third]") if page == "add_a_protocol" else text
    with pytest.raises(InputError) as caught:
        check(params.parse_text(text.replace(right, wrong)))
    key_or_name = re.split(r", |: ", wrong)
    assert any(word in str(caught.value) for word in key_or_name)


AXES = torch.eye(4)
CLASSES = ClassSet(
    names=("a", "b", "c"),
    seen=torch.tensor([True, True, False]),
    text_features=AXES[:3],
    text_norms=torch.ones(3),
    tokens=torch.zeros(3, 4, dtype=torch.int64),
    logit_scale=10.0,
)
TRAIN = LabelledFeatures(torch.stack([AXES[3], AXES[1]])[:, None], torch.tensor([0, 1]))
NOTHING = LabelledFeatures(torch.zeros(0, 1, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.usefixtures("add")
def test_the_example_method_classifies() -> None:
    method = find(pipeline.methods, "class_means", Method)(mix=1.0)
    data = FitData(TRAIN, CLASSES, synthetic=None, validation=NOTHING, tower=None, rng=torch.Generator())
    logits = method.fit(data).logits(AXES, torch.arange(3))
    # The weight of class 0 is its image and no longer its name; class 2 has only its name.
    assert torch.equal(logits, torch.tensor([[0.0, 0, 0], [0, 10, 0], [0, 0, 10], [10, 0, 0]]))

    # A synthetic feature of class 2 takes the place of its name.
    synthetic = LabelledFeatures(AXES[None, :1], torch.tensor([2]))
    data = FitData(TRAIN, CLASSES, synthetic=synthetic, validation=NOTHING, tower=None, rng=torch.Generator())
    assert method.fit(data).logits(AXES, torch.arange(3)).argmax(0).tolist() == [3, 1, 0]


@pytest.mark.usefixtures("add")
@pytest.mark.parametrize(
    ("features", "labels", "names"),
    [
        (torch.full((2, 1, 4), torch.nan), [0, 1], "2 of 2"),
        (torch.ones(2, 1, 3), [0, 1], "3"),
        (torch.ones(2, 1, 4), [0, 7], "1 of 2"),
    ],
    ids=["not finite", "another dimension", "no such class"],
)
def test_the_example_method_gets_no_features_that_it_cannot_use(
    features: torch.Tensor, labels: list[int], names: str
) -> None:
    with pytest.raises(InputError) as caught:
        api.fit("class_means", LabelledFeatures(features, torch.tensor(labels)), CLASSES)
    assert names in str(caught.value)


@pytest.mark.usefixtures("add")
def test_the_classifier_of_the_example_method_rejects_features_that_it_cannot_score() -> None:
    classifier = api.fit("class_means", TRAIN, CLASSES)
    for wrong in (torch.ones(1, 3), torch.full((1, 4), torch.nan)):
        with pytest.raises(InputError):
            classifier.logits(wrong, torch.arange(3))


@pytest.mark.usefixtures("add")
def test_the_example_data_set_is_read_checked_and_listed(tmp_path: Path) -> None:
    text = shipped_with("add_a_dataset")
    assert "Nobody: An example, 2024" in details(params.parse_text(text), "mushrooms")

    for image in put_mushrooms(tmp_path):
        image.write_bytes(image.name.encode())
    reader = reader_of(params.parse_text(text), "mushrooms")
    listing = reader.read(tmp_path)
    assert listing.classes == ("cep", "death cap", "fly agaric")
    assert list(mistakes(listing)) == []


@pytest.mark.usefixtures("add")
@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("train.txt", None, ["train.txt"]),
        ("val.txt", "val_0.jpg\n\tcep\tcep\n", ["val.txt", "line 1", "'val_0.jpg'", "line 2"]),
        ("images/test_1.jpg", None, ["test_1.jpg"]),
    ],
    ids=["no split file", "lines of another form", "no image"],
)
def test_the_example_data_set_reports_a_faulty_copy(
    tmp_path: Path, file: str, text: str | None, names: list[str]
) -> None:
    for image in put_mushrooms(tmp_path):
        image.write_bytes(b"")
    (tmp_path / "mushrooms" / file).unlink()
    if text is not None:
        (tmp_path / "mushrooms" / file).write_text(text, encoding="utf-8")

    reader = reader_of(params.parse_text(shipped_with("add_a_dataset")), "mushrooms")
    faults = "\n".join(reader.read(tmp_path).faults)
    assert all(name in faults for name in names), faults


@pytest.mark.usefixtures("add")
def test_the_example_data_set_reports_that_nothing_can_be_read(tmp_path: Path) -> None:
    reader = reader_of(params.parse_text(shipped_with("add_a_dataset")), "mushrooms")
    with pytest.raises(InputError, match="mushrooms"):
        reader.read(tmp_path)

    put_mushrooms(tmp_path)
    for split in ("train", "val", "test"):
        (tmp_path / f"mushrooms/{split}.txt").unlink()
    with pytest.raises(InputError) as caught:
        reader.read(tmp_path)
    assert all(f"{split}.txt" in str(caught.value) for split in ("train", "val", "test"))


def plan(count: int, **settings: int) -> Plan:
    """Return the plan of the example protocol for a data set with `count` classes."""
    class_counts = ClassCounts(
        tuple(f"class {i}" for i in range(count)), {split: np.full(count, 20) for split in ("train", "val", "test")}
    )
    protocol = find(pipeline.protocols, "every_nth", Protocol)
    return protocol(protocol="every_nth", shots=16, **settings).plan("d", {"d": class_counts})


@pytest.mark.usefixtures("add")
def test_the_example_protocol_plans_a_task() -> None:
    task = plan(7)
    assert [ref.class_id for ref in task.seen] == [0, 1, 3, 4, 6]
    assert [ref.class_id for ref in task.unseen] == [2, 5]
    assert [split.name for split in task.eval_splits] == ["seen", "unseen"]
    assert all(len(split.candidates) == 7 for split in task.eval_splits)
    assert task.harmonic == ("seen", "unseen")
    assert [ref.class_id for ref in plan(4, every=2).unseen] == [1, 3]


@pytest.mark.usefixtures("add")
def test_the_example_protocol_rejects_too_few_classes() -> None:
    with pytest.raises(InputError) as caught:
        plan(2)
    assert "'d'" in str(caught.value)
    assert "every: 3" in str(caught.value)


TOWER = tiny.tower(std=0.3)
SIX_CLASSES = tiny.classes(TOWER)


def fit_generator(train: LabelledFeatures, log: list[dict[str, float]], **settings: float) -> FittedGenerator:
    """Fit the example generator on images of the four seen classes."""
    generator = find(pipeline.generators, "linear_map", Generator)(**settings)
    return generator.fit(train, SIX_CLASSES, TOWER, stream(1, "train_generator"), log.append)


@pytest.mark.usefixtures("add")
def test_the_example_generator_learns_and_synthesizes(tmp_path: Path) -> None:
    log: list[dict[str, float]] = []
    model = fit_generator(tiny.features([0, 1, 2, 3], 8, 3), log, learning_rate=0.01)
    assert [row["epoch"] for row in log] == [*range(1, 21)]
    assert log[-1]["reconstruction"] < log[0]["reconstruction"]

    ids = torch.tensor([0, 4, 5, 5])
    samples = model.sample(ids, SIX_CLASSES, TOWER, stream(1, "synthesize"))
    torch.testing.assert_close(samples.norm(dim=1), torch.ones(4))
    assert not torch.equal(samples[2], samples[3])

    save_tensors(model.state_dict(), tmp_path / "model", weights_sha256="0")
    again = find(pipeline.generators, "linear_map", Generator)().build(32, TOWER, stream(2, "build"))
    again.load_state_dict(load_tensors(tmp_path / "model", torch.device("cpu"), weights_sha256="0"))
    assert torch.equal(again.sample(ids, SIX_CLASSES, TOWER, stream(1, "synthesize")), samples)


@pytest.mark.usefixtures("add")
def test_the_example_generator_reports_training_that_diverges() -> None:
    train = tiny.features([0, 1, 2, 3], 8, 3)
    broken = LabelledFeatures(torch.full_like(train.features, torch.nan), train.labels)
    with pytest.raises(InputError) as caught:
        fit_generator(broken, [], epochs=1)
    assert "generators.linear_map" in str(caught.value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_pages_name_exist(page: Path) -> None:
    shipped = params.load(ROOT / "params.yaml").model_dump()
    for key in re.findall(r"(?:-S|--set) '?([a-z_.0-9]+)=", page.read_text(encoding="utf-8")):
        block = shipped
        for part in key.split("."):
            assert part in block, f"{page.name} sets {key}, which params.yaml does not have"
            block = block[part]


def test_shipyard_understands_every_command_of_the_pages() -> None:
    assert len(calls("shipyard")) > 20
    for page, words in calls("shipyard"):
        leaf = get_command(app)
        while words and words[0] in getattr(leaf, "commands", ()):
            leaf = leaf.commands[words.pop(0)]  # type: ignore[attr-defined]
        try:
            leaf.make_context("shipyard", words)  # parses the command line and runs nothing
        except ClickException as error:
            pytest.fail(f"{page}: {words}: {error.format_message()}")


def test_dvc_understands_every_command_of_the_pages() -> None:
    from dvc.cli import parse_args

    assert len(calls("dvc")) > 20
    for _, words in calls("dvc"):
        parse_args(words)


def test_make_targets_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake\s([a-z-]+)`", page.read_text(encoding="utf-8"))}
    assert named
    assert named <= targets
