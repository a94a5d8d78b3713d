"""`pulvinar reid` as a user meets it, on embeddings that stand in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from domains.reid.index.embedding_files import StoredEmbeddings, write_embeddings
from pipelines.errors import ExitCode
from workflows.main import run


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = run(["reid", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def put(folder: Path, names: list[str], values: list[list[float]], *, digest: str = "m") -> Path:
    """Embeddings of images, and the images."""
    folder.mkdir()
    for name in names:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16)).save(folder / "images" / name)
    table = pd.DataFrame({"item": [Path(name).stem for name in names], "source": names})
    write_embeddings(folder, StoredEmbeddings(np.array(values), table, digest))
    return folder


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    names = ["anna/1_a.png", "anna/2_b.png", "ben/1_c.png", "ben/2_d.png"]
    return put(tmp_path / "gallery", names, [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])


@pytest.fixture
def index(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    code, _, _ = call(
        capsys, "index", gallery, "--out", tmp_path / "index", "--images", gallery / "images",
        "--pattern", "{identity}/{camera}_*.png", "--false-match-rate", "0.25",
    )  # fmt: skip
    assert code == ExitCode.OK
    return tmp_path / "index"


def test_an_index_is_made_searched_and_deleted(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = put(tmp_path / "queries", ["q1.png", "q2.png"], [[1, 0.05], [-1, -1]])
    code, output, _ = call(capsys, "search", index, queries, "--top", "2", "--json")
    told = json.loads(output)
    assert code == ExitCode.OK
    assert [one["answer"] for one in told["queries"]] == ["anna", "unknown"]
    assert [hit["item"] for hit in told["queries"][0]["hits"]] == ["1_a", "2_b"]
    assert 0 < told["threshold"] < 1
    code, output, _ = call(capsys, "search", index, queries, "--camera", "2")
    assert "q1 → anna" in output
    assert "1_a" not in output
    code, output, _ = call(capsys, "delete", index, "--yes", "--json")
    assert (code, json.loads(output)["images"]) == (ExitCode.OK, 4)
    assert not index.exists()


def test_a_search_draws_its_ranked_lists(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = put(tmp_path / "queries", ["anna/1_q.png"], [[1, 0.05]])
    code, output, _ = call(
        capsys, "search", index, queries, "--pattern", "{identity}/{camera}_*.png", "--images", index,
        "--picture", tmp_path / "lists" / "found.png", "--json",
    )  # fmt: skip
    assert code != ExitCode.OK  # the images of embeddings lie elsewhere than the embeddings
    code, output, _ = call(
        capsys, "search", index, queries, "--query-images", queries / "images", "--pattern",
        "{identity}/{camera}_*.png", "--picture", tmp_path / "lists" / "found.png", "--json",
    )  # fmt: skip
    assert code == ExitCode.OK
    statuses = [hit["status"] for hit in json.loads(output)["queries"][0]["hits"]]
    assert statuses == ["junk", "right", "wrong", "wrong"]
    with Image.open(tmp_path / "lists" / "found.png") as drawn:
        assert drawn.width > 300


def test_the_index_tells_what_it_is(index: Path, gallery: Path, tmp_path: Path, capsys) -> None:
    code, output, _ = call(capsys, "index", gallery, "--out", tmp_path / "other", "--json")
    told = json.loads(output)
    assert code == ExitCode.OK
    assert (told["images_indexed"], told["identities"], told["threshold"]) == (4, 0, None)
    assert "biometric" in told["note"]


@pytest.mark.parametrize("answer", [[], ["--json"]])
def test_deleting_without_a_yes_deletes_nothing(index: Path, answer: list[str], capsys) -> None:
    code, _, _ = call(capsys, "delete", index, *answer)
    assert code != ExitCode.OK
    assert (index / "index.yaml").is_file()


def test_what_is_no_index_is_refused(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "delete", gallery, "--yes")
    assert code == ExitCode.DATA
    assert "is no index" in error
    assert (gallery / "embeddings.safetensors").is_file()
    code, _, error = call(capsys, "search", gallery, gallery)
    assert code == ExitCode.DATA


def test_queries_of_another_model_are_refused(index: Path, tmp_path: Path, capsys) -> None:
    code, _, error = call(capsys, "search", index, put(tmp_path / "q", ["q.png"], [[1, 0]], digest="other"))
    assert code == ExitCode.DATA
    assert "another model" in error


def test_images_without_a_model_are_refused(index: Path, gallery: Path, tmp_path: Path, capsys) -> None:
    code, _, error = call(capsys, "index", gallery / "images", "--out", tmp_path / "new")
    assert code == ExitCode.USAGE
    assert "--model MODEL" in error
    code, _, error = call(capsys, "search", index, gallery / "images" / "anna" / "1_a.png")
    assert code == ExitCode.USAGE
    assert "the index names none" in error


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "nan"])
def test_a_rate_that_is_none_is_refused_before_anything_is_embedded(
    gallery: Path, tmp_path: Path, rate, capsys
) -> None:
    code, _, error = call(capsys, "index", gallery, "--out", tmp_path / "new", "--false-match-rate", rate)
    assert code == ExitCode.USAGE
    assert "is no share of pairs" in error
    assert not (tmp_path / "new").exists()


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """A Market-1501 of a few pictures, and a workflow that reads it."""
    names = ["bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0002_c2s1_000451_03.jpg"]
    names += ["query/0007_c1s1_000651_00.jpg", "bounding_box_test/0007_c2s1_000451_02.jpg"]
    names += [f"bounding_box_test/-1_c2s1_0000{number}_02.jpg" for number in range(30)]
    for number, name in enumerate(names):
        (tmp_path / "market" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (number, 0, 0)).save(tmp_path / "market" / name)
    (tmp_path / "market" / "query" / "Thumbs.db").write_text("no picture")
    workflow = tmp_path / "market.yaml"
    workflow.write_text(
        "task: reid/retrieval\nname: market\ndata: {format: market1501, root: market}\nsplit: {validation: 0.0}\n"
    )
    return workflow


def test_validate_shows_what_was_read_and_takes_junk_for_no_problem(market: Path, capsys) -> None:
    assert run(["validate", str(market)]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "30 junk picture, which the benchmark does not judge" in shown
    assert "4 of 34 cases can be used" in shown
    assert "1 .db" in shown
    assert "-1_c2s1" not in shown
    assert run(["validate", str(market), "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert len(told["left_out"]) == 30
    assert told["report"]["identities"] == 2


def test_validate_names_the_first_problems_of_many_alike(market: Path, capsys) -> None:
    for number in range(25):
        (market.parent / "market" / "query" / f"strange {number:02d}.jpg").write_text("no picture")
    assert run(["validate", str(market)]) == ExitCode.DATA
    shown = capsys.readouterr().out
    assert "query/strange 19.jpg" in shown
    assert "query/strange 20.jpg" not in shown
    assert "5 more" in shown
    assert run(["validate", str(market), "--json"]) == ExitCode.DATA
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 25


@pytest.fixture
def pictures_and_model(tmp_path: Path) -> tuple[Path, Path]:
    """Pictures of two people by two cameras, and a small untrained network that is told the camera."""
    from domains.reid.retrieval.settings import RetrievalWorkflow
    from domains.reid.retrieval.task import RetrievalTask
    from pipelines.modelfolder import save_model

    random = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for name in ("anna/1_a.png", "anna/2_b.png", "ben/1_c.png", "ben/2_d.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(root / name)
    network = {"name": "vit", "width": None, "dim": 16, "depth": 1, "heads": 2, "patch": 8, "cameras": True}
    given = {"task": "reid/retrieval", "name": "tiny", "model": network, "input": {"size": [16, 8]}}
    given |= {"data": {"format": "identities", "root": str(root), "pattern": "{identity}/{camera}_*.png"}}
    given |= {"sampling": {"balanced": False}}
    task = RetrievalTask(RetrievalWorkflow.model_validate(given))
    task.fit(task.read_cases().cases)
    save_model(tmp_path / "model", task, task.build_network().state_dict())
    return root, tmp_path / "model"


def test_pictures_are_indexed_with_their_cameras_and_named_ones_searched(pictures_and_model, tmp_path, capsys) -> None:
    pictures, model = pictures_and_model
    (pictures / "ben" / "1_broken.png").write_bytes(b"no picture")
    (pictures / "strange.png").write_bytes(b"no picture")
    told = ("--pattern", "{identity}/{camera}_*.png")
    index = tmp_path / "index"
    code, output, error = call(capsys, "index", pictures, "--model", model, "--out", index, *told, "--json")
    assert code == ExitCode.SOME_FAILED
    assert [one["source"] for one in json.loads(output)["failed"]] == ["ben/1_broken.png", "strange.png"]
    assert "is told which camera" not in error
    # Of all the pictures below the folder of the pattern, only the one that is named is searched for.
    query = (pictures / "ben" / "2_d.png", "--query-images", pictures)
    code, output, error = call(capsys, "search", index, *query, *told, "--json")
    (found,) = json.loads(output)["queries"]
    assert code == ExitCode.OK
    assert (found["identity"], found["hits"][0]["item"], found["hits"][0]["status"]) == ("ben", "ben-2_d", "junk")
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert "is told which camera" not in error
    code, output, error = call(capsys, "search", index, *query, "--json")
    assert code == ExitCode.OK
    assert json.loads(output)["queries"][0]["hits"][0]["score"] < 0.99999
    assert "(1, 2); 1 of 1 images name none of these" in error
