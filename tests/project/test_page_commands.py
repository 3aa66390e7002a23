"""Run every command of README and docs: here, or in the test that TABLE names, or TABLE says why it is not run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from layouts import imagenet_sample, touch
from loopback_s3 import s3_server
from pages import (
    PAGES,
    commands,
    example,
    put_mushrooms,
    with_settings_of,
)
from pictures import picture
from project_root import ROOT
from small_repo import make_repo, ran, run
from typer.testing import CliRunner

from features.datasets.base import SPLITS
from features.splits.split_zhou import read_split
from pipeline.cli import app as cli
from pipeline.cli import run as run_command
from pipeline.config import overrides, params
from pipeline.report.docs_results import BEGIN, END

NO = "not run: "
SELF = "test_page_commands.py::"
SHARE = "test_share.py::"
EVERYDAY = "test_repro.py::test_the_readmes_everyday_commands_run"
FEATURES = "test_repro.py::test_the_commands_on_features_of_the_page_on_sharing_run"
PARALLEL = "test_parallel.py::test_the_commands_of_the_page_give_the_bytes_of_one_cell_at_a_time"
OWN = "test_own_images_page.py::"
ALL = {"this test is part of it": ["make test"], ".ci/run runs it": ["make demo"]}
INSTALLS = NO + "installs from the network; .ci/run installs the project by its extras `demo`, `dev` and `docs`"
FINISHED = "reads the artifacts of four recipes; test_benchmarks.py has its tables"
SUITE = NO + "it runs tests of this suite"
PYTEST = ".venv/bin/python -m pytest"
DATA = "--set data.root=../shared/data"
RECIPE = "run --recipe papers/ship_table_1.yaml --set data.root=/where/your/data/lie"
TABLE: dict[str, dict[str, list[str]]] = {
    "README.md": {
        **{NO + why: lines for why, lines in ALL.items()},
        NO + "changes the shell that it is typed into": ["source .venv/bin/activate"],
        SELF + "test_a_published_data_set_is_run": [f".venv/bin/shipyard run caltech101 {DATA}"],
        SELF + "test_the_settings_of_the_whole_recipe_are_written": [f".venv/bin/shipyard {RECIPE}"],
        OWN + "test_the_readmes_lines_are_those_of_the_page": [
            "shipyard task new mybirds --images DIR --unseen names.txt",
            "shipyard run mybirds",
            "shipyard predict mybirds photo.jpg",
        ],
        EVERYDAY: [
            *(f"shipyard {command}" for command in ("doctor", "check", "run", "report")),
            "shipyard features info artifacts/liteclip/features/twemoji.zarr",
            *(f"dvc {command}" for command in ("metrics show", "exp show --only-changed", "plots show")),
            "dvc repro fit",
        ],
    },
    "docs/index.md": {
        **{NO + why: lines for why, lines in ALL.items()},
        EVERYDAY: ["shipyard doctor", "shipyard verify --repair", "dvc metrics show", "dvc exp show --only-changed"],
        PARALLEL: ["shipyard run --jobs 4"],
        "test_repro.py::test_results_and_parameters_compare_with_a_commit": [
            *("shipyard run -q", "dvc metrics diff", "dvc params diff", "dvc plots diff"),
        ],
    },
    "docs/add_a_dataset.md": {
        SELF + "test_the_example_data_set_is_listed_and_run": [
            *(".venv/bin/shipyard data list mushrooms", ".venv/bin/shipyard run mushrooms"),
        ],
        SUITE: [f"{PYTEST} tests/features/datasets -k mushrooms"],
    },
    "docs/add_a_method.md": {
        SELF + "test_the_example_method_runs_only_its_own_cells": [".venv/bin/shipyard run"],
        SUITE: [f"{PYTEST} tests/pipeline/methods tests/project/test_layout.py -k 'class_means or params'"],
    },
    "docs/add_a_protocol.md": {
        SELF + "test_the_example_protocol_runs_only_the_cells_of_its_task": [
            ".venv/bin/shipyard run --set 'grid.tasks=[every_third]'",
        ],
        SUITE: [f"{PYTEST} tests/pipeline/protocols tests/project/test_layout.py"],
    },
    "docs/add_a_generator.md": {
        SELF + "test_the_example_generator_runs_only_its_own_cells": [".venv/bin/shipyard run"],
        SUITE: [f"{PYTEST} tests/pipeline tests/project/test_layout.py -k 'linear_map or params'"],
    },
    "docs/balance.md": {
        NO + FINISHED: ["python -m benchmarks.balance"],
        SELF + "test_a_task_is_balanced": [
            "shipyard run --set 'grid.tasks=[class_incremental]' --set 'grid.select=[class_incremental]'",
        ],
    },
    "docs/latent.md": {
        "test_repro.py::test_the_command_of_the_page_on_the_latent_runs": [
            "shipyard features covariance artifacts/liteclip/features/textures-10.zarr",
        ],
    },
    "docs/from_a_phone.md": {
        NO + "`python -m benchmarks.phone_page` runs them in a copy, and takes the pictures of the page": [
            "shipyard task check photos",
            "echo clock > names.txt",
            "shipyard task new stickers --images photos --unseen names.txt --template 'a sticker of a {}.'",
            "shipyard run stickers",
            "shipyard predict stickers new --html found.html",
            "shipyard serve stickers",
        ],
    },
    "docs/own_images.md": {
        INSTALLS: ["pip install -e '.[export]'"],
        OWN + "test_the_page_is_short_and_every_command_of_it_was_run": [
            "shipyard task new mybirds --images photos/birds --unseen names.txt",
            "shipyard run mybirds",
            "shipyard predict mybirds photos/new",
            "shipyard predict mybirds 'photos/**/*.jpg' --csv found.csv --html found.html",
            'echo "kingfisher" >> classes/mybirds.txt',
            "shipyard export mybirds --to onnx --out mybirds.onnx",
        ],
    },
    "docs/reliability.md": {
        NO + "takes an hour and more; test_fault_bench.py runs how it writes": ["python -m benchmarks.faults"]
    },
    "docs/serve.md": {
        INSTALLS: ["pip install -e '.[serve]'"],
        "test_serve.py::test_serve_and_predict_work_while_a_run_holds_the_repository": ["shipyard serve mybirds"],
        "test_serve.py::test_saved_labels_are_a_table_that_task_new_reads": [
            "shipyard task new corrected --images labels/mybirds/labels.csv"
        ],
        "test_serve.py::test_an_image_gets_the_classes_of_predict_and_its_nearest_training_images": [
            "curl --data-binary @photo.jpg 'http://127.0.0.1:8000/classify?top=3'"
        ],
    },
    "docs/what_is_read.md": {
        "test_new_task.py::test_check_shows_each_class_and_everything_odd_and_writes_nothing": [
            "shipyard task check photos/birds"
        ],
        "test_new_task.py::test_archives_become_a_data_set_by_pattern_or_folder": [
            "shipyard task new mybirds --images 'photos/shards-{000000..000009}.tar'",
        ],
        "test_shards.py::test_archives_in_a_bucket_give_the_bytes_of_the_folder": [
            "shipyard task new mybirds --images s3://bucket/birds",
        ],
    },
    "docs/reproduce_the_papers.md": {
        SELF + "test_the_settings_of_the_whole_recipe_are_written": [f"shipyard {RECIPE}"],
        SELF + "test_a_recipe_is_run": [
            "shipyard run caltech101 dtd --recipe papers/ship_table_1.yaml --set 'grid.seeds=[1]' "
            "--set data.root=/where/they/lie",
            "dvc exp show --no-pager",
            'dvc plots diff ship_table_1-1 ship_table_1-2 --targets "Accuracy by run" --out figure',
        ],
    },
    "docs/results/ship.md": {NO + FINISHED: ["python -m benchmarks.balance"]},
    "docs/results/caltech101.md": {
        NO + "README's line, by make's .venv; .ci/run takes it for `demo`": ["make caltech"]
    },
    **{
        f"docs/results/{page}.md": {
            NO + "takes half an hour, and features that are not shipped; test_tip_adapter_cache.py imports such": [
                "python -m benchmarks.real_clip ../shared/data/clip-vit-b32"
            ]
        }
        for page in ("real_clip", "balance_clip")
    },
    "docs/scale.md": {
        NO + "takes minutes and a gigabyte; it is a benchmark": ["python -m benchmarks.scale 1000000 10000000"],
        INSTALLS: ["pip install -e '.[ray]'", "pip install -e '.[ray,s3]'"],
        PARALLEL: [
            "shipyard run --jobs 4",
            "dvc --wait-for-lock repro --single-item fit@caltech101-base_to_new-coop",
            "dvc --wait-for-lock repro --single-item fit@caltech101-base_to_new-kgcoop",
        ],
        "test_ray_cells.py::test_the_cell_of_a_lost_node_is_run_again_and_no_byte_differs": [
            "RAY_ADDRESS=head:6379 shipyard run --engine ray",
        ],
        SELF + "test_extraction_is_run_on_a_ray_cluster": [
            "RAY_ADDRESS=head:6379 shipyard run --set extract.engine=ray",
            "RAY_ADDRESS=head:6379 shipyard run --set extract.engine=ray --set compute.shards=s3://bucket/shards",
            "dvc push extract",
        ],
    },
    "docs/security.md": {
        "test_trust.py::test_mutated_files_are_read_or_refused": [
            "python tests/helpers/fuzz_importers.py --minutes 10",
        ],
        NO + "asks the network about every package": [
            *("pip install pip-audit", "pip-audit --strict --requirement constraints.txt --no-deps"),
        ],
    },
    "docs/merge.md": {
        "test_merge.py::test_two_branches_that_ran_other_settings_are_merged": [
            'git config merge.dvc-lock.driver "shipyard merge-lock %O %A %B"',
            *("git merge theirs", "dvc pull", "shipyard run"),
        ],
    },
    "docs/share.md": {
        SHARE + "test_a_colleague_pulls_and_has_nothing_to_run": [
            *(f"dvc remote add --default team {address}" for address in ("/path/to/shipyard", "s3://bucket/shipyard")),
            "dvc remote add --default team ssh://user@host/srv/shipyard",
            "dvc remote modify team verify true",
            *("dvc push", "dvc pull", "dvc repro"),
        ],
        NO + "git's own; test_share.py clones in its place": ["git pull"],
        SHARE + "test_a_methods_parameter_reruns_that_method_and_the_other_clone_pulls_the_runs": [
            *("dvc push --run-cache", "dvc pull --run-cache", "dvc repro --pull"),
        ],
        SHARE + "test_two_clones_share_one_cache_by_hard_links": [
            *("dvc cache dir /srv/dvc-cache", "dvc config cache.shared group"),
            *("dvc config cache.type reflink,hardlink", "dvc checkout --relink"),
        ],
        FEATURES: [
            "shipyard features info artifacts/liteclip/features/twemoji.zarr",
            "shipyard features verify artifacts/liteclip/features/twemoji.zarr",
            "shipyard features diff artifacts/liteclip/features/twemoji.zarr "
            "../other/artifacts/liteclip/features/twemoji.zarr",
            "shipyard features export artifacts/liteclip/features/twemoji.zarr twemoji.h5",
            "shipyard features import twemoji.h5 mine",
        ],
        SHARE + "test_imported_features_run_through_the_pipeline_without_images": [
            *("dvc repro code", "dvc commit --force index@lab extract@lab"),
        ],
    },
}
RESULTS = [page for page in PAGES if page.parent.name == "results" and commands(page)]
IN_TABLE = [page for page in PAGES if page not in RESULTS or page.relative_to(ROOT).as_posix() in TABLE]


@pytest.mark.parametrize("page", IN_TABLE, ids=lambda page: page.name)
def test_every_command_of_a_page_is_in_the_table(page: Path) -> None:
    listed = [line for lines in TABLE.get(page.relative_to(ROOT).as_posix(), {}).values() for line in lines]
    assert len(listed) == len(set(listed))
    assert set(commands(page)) == set(listed)


def test_every_test_of_the_table_exists() -> None:
    for where in {where for lines in TABLE.values() for where in lines if not where.startswith(NO)}:
        file, _, name = where.partition("::")
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(encoding="utf-8"), where


SMALL = [
    "grid.datasets=[caltech101]",
    "grid.methods=[zero_shot]",
    "grid.generators=[]",
    "grid.synthetic_methods=[]",
    "grid.seeds=[1]",
    "compute.device=cpu",
    "compute.workers=0",
    "extract.views=1",
    "tasks.base_to_new.shots=1",
]
ONE_RUN = ["--set", "grid.methods=[zero_shot]", "--set", "grid.generators=[]", "--set", "grid.synthetic_methods=[]"]


def small(text: str) -> str:
    """Return the params file with few cells, small encoders with random weights, and incomplete copies allowed."""
    text = overrides.apply(text, SMALL)
    encoder = '{model: "local-dir:encoder", pretrained: "random:0"}'
    text = re.sub(r"^(  (?:liteclip|vit_b16): )\{.*\}", rf"\g<1>{encoder}", text, flags=re.MULTILINE)
    return re.sub(r"(path: (?:caltech-101|dtd|imagenet-sample))\}", r"\1, allow_partial: true}", text)


def put_images(folder: Path, dataset: str) -> None:
    """Write a picture of each class in each split of the official lists."""
    _, rows = read_split(ROOT / f"features/datasets/{dataset}.json.gz")
    firsts = {(split, label): path for split in SPLITS for path, label in reversed(rows[split])}
    for number, path in enumerate(firsts.values()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / path)


@pytest.fixture(scope="module")
def run_once(warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Create a repository with the shipped settings, made small, and run README's command on Caltech101."""
    repo = make_repo(tmp_path_factory.mktemp("desk") / "repo")
    for folder in ("papers", "docs/results"):
        shutil.copytree(ROOT / folder, repo / folder)
    data = repo.parent / "shared/data"
    put_images(data / "caltech-101/101_ObjectCategories", "caltech101")
    put_images(data / "dtd/images", "dtd")
    imagenet_sample(data)
    for folder in ("textures-10", "food-101-mini/images"):
        touch(data / folder, [f"{kind}/{i}.jpg" for kind in ("banded", "cracked", "dotted") for i in range(5)])
    (repo / "params.yaml").write_text(small(params.read(ROOT / "params.yaml")), encoding="utf-8")
    output = page_run(repo, "README.md", f".venv/bin/shipyard run caltech101 {DATA}")
    run(repo, "git", "add", "--all")
    run(repo, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Run")
    return repo, output


@pytest.fixture
def repo(run_once: tuple[Path, str]) -> Iterator[Path]:
    """Return the repository, and restore its params.yaml after the test."""
    before = params.read(run_once[0] / "params.yaml")
    yield run_once[0]
    (run_once[0] / "params.yaml").write_text(before, encoding="utf-8")


def page_run(repo: Path, page: str, line: str, *more: str, instead: tuple[str, str] = ("", "")) -> str:
    """Return the output of a command of a page, with further options, and with one of its words replaced."""
    assert line in commands(ROOT / page)
    words = [word.replace(*instead) if instead[0] else word for word in shlex.split(line) if "RAY_ADDRESS=" not in word]
    return run(repo, words[0].removeprefix(".venv/bin/"), *words[1:], *more)


def cells(dataset: str, *methods: str) -> set[str]:
    """Return the cells of methods on a data set."""
    return {f"{stage}@{dataset}-base_to_new-{name}" for stage in ("fit", "evaluate") for name in methods}


@pytest.mark.system
def test_a_published_data_set_is_run(run_once: tuple[Path, str]) -> None:
    _, output = run_once
    assert "root: data -> ../shared/data" in output
    assert ran(output) >= {"index@caltech101", "extract@caltech101", *cells("caltech101", "zero_shot")}


@contextmanager
def with_example(repo: Path, page: str, file: str) -> Iterator[None]:
    """Add the example of a page to the repository: its file and its lines of params.yaml."""
    (repo / file).write_text(example(page), encoding="utf-8")
    text = with_settings_of(page, params.read(repo / "params.yaml"))
    (repo / "params.yaml").write_text(text, encoding="utf-8")
    yield
    (repo / file).unlink()


UNCHANGED = {"index@caltech101", "extract@caltech101", "text_tower", *cells("caltech101", "zero_shot")}


@pytest.mark.system
def test_the_example_method_runs_only_its_own_cells(repo: Path) -> None:
    with with_example(repo, "add_a_method", "pipeline/methods/class_means.py"):
        output = page_run(repo, "docs/add_a_method.md", ".venv/bin/shipyard run")
    assert ran(output) >= {*cells("caltech101", "class_means"), "report"}
    assert not ran(output) & UNCHANGED


@pytest.mark.system
def test_the_example_data_set_is_listed_and_run(repo: Path) -> None:
    for number, image in enumerate(put_mushrooms(repo.parent / "shared/data")):
        picture(number).save(image)
    with with_example(repo, "add_a_dataset", "features/datasets/mushrooms.py"):
        output = page_run(repo, "docs/add_a_dataset.md", ".venv/bin/shipyard data list mushrooms")
        assert "Nobody: An example, 2024" in output
        output = page_run(repo, "docs/add_a_dataset.md", ".venv/bin/shipyard run mushrooms")
    assert ran(output) >= {"index@mushrooms", *cells("mushrooms", "zero_shot")}


@pytest.mark.system
def test_the_example_protocol_runs_only_the_cells_of_its_task(repo: Path) -> None:
    line = ".venv/bin/shipyard run --set 'grid.tasks=[every_third]'"
    with with_example(repo, "add_a_protocol", "pipeline/protocols/every_nth.py"):
        output = page_run(repo, "docs/add_a_protocol.md", line, "--set", "tasks.every_third.shots=1")
    assert ran(output) >= {
        "build_task@caltech101-every_third",
        *(f"{stage}@caltech101-every_third-zero_shot" for stage in ("fit", "evaluate")),
        "report",
    }
    assert not ran(output) & UNCHANGED


@pytest.mark.system
def test_the_example_generator_runs_only_its_own_cells(repo: Path) -> None:
    with with_example(repo, "add_a_generator", "pipeline/generators/linear_map.py"):
        settings = ("grid.generators=[linear_map]", "visualization.methods=[pca]", "synthesis.per_class=2")
        more = [word for setting in settings for word in ("--set", setting)]
        output = page_run(repo, "docs/add_a_generator.md", ".venv/bin/shipyard run", *more)
    assert ran(output) >= {
        *(
            f"{stage}@caltech101-base_to_new-linear_map"
            for stage in ("train_generator", "synthesize", "evaluate_generator", "visualize_features")
        ),
        "report",
    }
    assert not ran(output) & UNCHANGED


@pytest.mark.system
def test_a_task_is_balanced(repo: Path) -> None:
    line, _ = commands(ROOT / "docs/balance.md")
    settings = ["grid.methods=[zero_shot, taskres]", "methods.taskres.epochs=1", "tasks.class_incremental.shots=1"]
    output = page_run(repo, "docs/balance.md", line, *(word for one in settings for word in ("--set", one)))
    of_task = "caltech101-class_incremental"
    stages = {f"validate@{of_task}-{name}" for name in ("zero_shot", "taskres")}
    assert ran(output) >= {*stages, f"select@{of_task}", f"evaluate_balanced@{of_task}"}
    assert re.search(r"^ +taskres( +\S+){3,}", output, re.MULTILINE), "the table of the selection"
    assert "AUSUC" in output


@pytest.mark.system
def test_a_recipe_is_run(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the recipe on one of its data sets with one method; all other settings are the recipe's."""
    data, page = str(repo.parent / "shared/data"), "docs/reproduce_the_papers.md"
    (smaller,) = [line for line in commands(ROOT / page) if "/where/they/lie" in line]
    one = [*ONE_RUN, "--set", "grid.datasets=[dtd]", "--set", "grid.encoder=liteclip"]
    output = page_run(repo, page, smaller, *one, instead=("/where/they/lie", data))
    assert "epochs: 50 -> {default: 50, imagenet: 10}" in output.replace('"', "")
    assert ran(output) >= {"extract@dtd", *cells("dtd", "zero_shot")}
    monkeypatch.setenv("COLUMNS", "10000")  # as wide as dvc's table
    experiments = page_run(repo, page, "dvc exp show --no-pager")
    assert "ship_table_1-1" in experiments
    assert "ship_table_1-2" in experiments
    (figure,) = [line for line in commands(ROOT / page) if line.startswith("dvc plots diff")]
    page_run(repo, page, figure)
    drawn = (repo / "figure/index.html").read_text(encoding="utf-8")
    assert {f'"rev": "ship_table_1-{number}"' in drawn for number in (1, 2)} == {True}


def without_stages(monkeypatch: pytest.MonkeyPatch, repo: Path, line: str, *more: str) -> None:
    """Run a command in this process without the stages, which take hours, and without showing results."""
    monkeypatch.chdir(repo)
    calls: list[str] = []
    for module, name in ((cli, "repro"), (cli, "report"), (run_command, "keep"), (cli, "_print_selection")):
        monkeypatch.setattr(module, name, lambda *_, name=name: calls.append(name))
    result = CliRunner().invoke(cli.app, [*shlex.split(line)[1:], *more])
    assert result.exit_code == 0, result.exception
    assert calls[:2] == ["repro", "report"]


@pytest.mark.system
@pytest.mark.parametrize("page", ["README.md", "docs/reproduce_the_papers.md"])
def test_the_settings_of_the_whole_recipe_are_written(repo: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = [line for line in commands(ROOT / page) if line.endswith(RECIPE)]
    line = line.replace("/where/your/data/lie", "../shared/data")
    without_stages(monkeypatch, repo, line, "--set", "grid.datasets=[caltech101, dtd]")
    assert "context: 4" in params.read(repo / "params.yaml")


@pytest.mark.system
@pytest.mark.parametrize("page", [page for page in RESULTS if page not in IN_TABLE], ids=lambda page: page.stem)
def test_the_commands_of_a_page_of_results_write_it(repo: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, (first, *rest) = params.read(repo / "params.yaml"), commands(page)
    name = page.relative_to(ROOT).as_posix()
    without_stages(monkeypatch, repo, first)
    assert rest in ([], [f"shipyard report --into {name}"])
    (repo / "params.yaml").write_text(before, encoding="utf-8")  # whose results exist
    for line in rest:
        page_run(repo, name, line)
        shipped, written = (
            path.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0] for path in (page, repo / name)
        )
        assert written.strip()
        assert written != shipped


CLUSTER = """
import ray
print(ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False).address_info["gcs_address"], flush=True)
input()
"""


@pytest.mark.system
def test_extraction_is_run_on_a_ray_cluster(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a cluster of one node with one actor, and a bucket behind S3's protocol."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    page = "docs/scale.md"
    on_ray, in_bucket = [line for line in commands(ROOT / page) if "RAY_ADDRESS" in line and "engine ray" not in line]
    with s3_server() as settings:
        for name, value in {
            **settings,
            "RAY_worker_niceness": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": 64 * "0",
            "PYTHONPATH": str(repo),
        }.items():
            monkeypatch.setenv(name, value)
        cluster = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert cluster.stdout is not None
            monkeypatch.setenv("RAY_ADDRESS", cluster.stdout.readline().decode().strip())
            views = ["--set", "extract.views=0"]  # so that there is something to extract
            assert "extract@caltech101" in ran(page_run(repo, page, on_ray, *views))
            views = ["--set", "extract.views=2"]
            output = page_run(repo, page, in_bucket, *views, instead=("s3://bucket", "s3://team"))
            assert "extract@caltech101" in ran(output)
        finally:
            cluster.communicate(b"\n", timeout=60)
    run(repo, "dvc", "remote", "add", "--default", "team", str(repo.parent / "store"))
    page_run(repo, page, "dvc push extract")
    assert [*(repo.parent / "store").rglob("*.dir")], "the store is a folder"
