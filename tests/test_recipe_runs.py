"""What is trained on a GPU machine, and what it hands over; no training."""

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from benchmarks.recipe_runs import ALWAYS, ARTICLE, RUNS, command, hand_over, pack, record
from benchmarks.without_dvc import StagesAlone, changed_params, settings, tiles_from
from roads.params import read_section
from tests.packed import save_tiny_net
from tests.project import ROOT
from tests.test_pipeline_file import STAGES, sections_read


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_valid_params(name: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(changed_params(RUNS[name] | ALWAYS)))
    for stage in STAGES:
        for section, model in sections_read(stage).items():
            read_section(model, section, file)


def test_the_article_is_trained_as_the_readme_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"The article's, by its own.*?dvc exp run (.*?)\n\n", text, re.DOTALL)
    assert found is not None
    assert settings(found[1].replace("-S ", "").replace("\\\n", "")) == ARTICLE


def test_the_record_says_how_to_repeat_the_run() -> None:
    changes = {**ARTICLE, "train.road_weight": None, "download.folder": "/home/somebody/tiles"}
    line = command(changes)
    assert line.startswith("KERAS_BACKEND=jax dvc exp run -S ")
    again = settings(line.split("run ", 1)[1].replace("-S ", ""))
    assert again == {**changes, "download.folder": "/absolute/path"}


def finished_pipeline(folder: Path) -> StagesAlone:
    """A pipeline's folder as a training of three epochs leaves it."""
    pipeline = StagesAlone(folder)
    save_tiny_net(folder / "models")
    for name, text in {
        "metrics/data.json": '{"train": {"crops": 50}}',
        "metrics/train.json": '{"epochs": 3}',
        "metrics/test.json": "{}",
        "metrics/train/plots/metrics/valid/loss.tsv": "step\tloss\n",
        "metrics/test/tiles.csv": "tile\n",
        "metrics/test/tiles/secret.png": "a picture",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return pipeline


def test_an_archive_in_parts_holds_all_but_pictures(tmp_path: Path) -> None:
    pipeline = finished_pipeline(tmp_path / "pipeline")
    values = record(pipeline, {"train.epochs": 3}, commit="1234")
    assert (values["crops_trained_on"], values["commit"], values["device"]) == (150, "1234", "CPU")
    assert {"python", "numpy"} <= set(values["versions"])
    (pipeline.folder / "record.json").write_text(json.dumps(values))
    pack("tiny", pipeline.folder, tmp_path / "tiny.tar.gz")

    hand_over("tiny", tmp_path / "tiny.tar.gz", tmp_path / "out", limit=2_000)
    parts = sorted((tmp_path / "out").iterdir())
    assert len(parts) > 1
    assert max(part.stat().st_size for part in parts) <= 2_000
    whole = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=whole) as stream:
        stream.extractall(tmp_path, filter="data")
    names = {
        str(path.relative_to(tmp_path / "tiny"))
        for path in (tmp_path / "tiny").rglob("*")
        if path.is_file()
    }
    assert names == {
        "record.json", "data.json", "train.json", "test.json", "unet.json", "unet.weights.h5",
        "curves/valid/loss.tsv", "test/tiles.csv",
    }  # fmt: skip
    weights = (tmp_path / "tiny/unet.weights.h5").read_bytes()
    assert weights == (pipeline.folder / "models/unet.weights.h5").read_bytes()


def call(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, for tiles that are not there to be trained on."""
    (folder / "tiles").mkdir(exist_ok=True)
    words = f"-m benchmarks.recipe_runs --tiles {folder}/tiles --work {folder}/work"
    return subprocess.run(
        [sys.executable, *words.split(), f"--out={folder}/out", *options],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_a_wrong_key_is_told_before_anything_starts(tmp_path: Path) -> None:
    answer = call(tmp_path, "-S", "unet.filter=4")
    assert answer.returncode == 1
    assert answer.stderr == "error: unet.filter is not a key of params.yaml\n"
    assert not (tmp_path / "work").exists()


def test_finished_runs_are_handed_over_whatever_the_others_do_and_none_begins_late(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiles").mkdir()
    changes = RUNS["article"] | ALWAYS | tiles_from(tmp_path / "tiles") | {"unet.filters": 4}
    pipeline = StagesAlone(tmp_path / "work/pipeline")
    *_, (_, key) = pipeline.keys(changed_params(changes))
    archive = tmp_path / "work/finished" / f"article-{key[:16]}.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"whole")
    answer = call(tmp_path, "--only", "best", "article", "-S", "unet.filters=4")
    assert "best failed: the stage download failed" in answer.stdout  # for it has no tiles
    assert answer.stderr.endswith("error: not finished: best\n")
    assert (tmp_path / "out/article.tar.gz").read_bytes() == b"whole"
    answer = call(tmp_path, "--minutes=0")
    late = [line.split()[1] for line in answer.stdout.splitlines() if line.endswith("another call")]
    assert late == list(RUNS)
