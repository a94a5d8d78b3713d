"""Both tasks from files to judgement and service, on pictures whose colour is their identity."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domains.reid.classification.judgement import rank_of
from domains.reid.classification.settings import ClassificationWorkflow
from domains.reid.classification.task import ClassificationTask
from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.reranking import rerank
from domains.reid.judging.retrieval import evaluate_retrieval
from domains.reid.judging.rules import MATCHING_RULES
from domains.reid.retrieval.judgement import judge_queries
from domains.reid.retrieval.roles import rounds_of
from domains.reid.retrieval.settings import RetrievalWorkflow
from domains.reid.retrieval.task import RetrievalTask
from pipelines.errors import CaseError, ConfigurationError, DataError
from pipelines.task import SampleKey

PEOPLE, CAMERAS, SHOTS = 5, 2, 2
VIT = {"name": "vit", "width": None, "dim": 16, "depth": 2, "heads": 2, "patch": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        colour = rng.integers(40, 215, 3)
        for camera in range(1, CAMERAS + 1):
            for shot in range(SHOTS):
                noise = rng.integers(-20, 20, (40, 20, 3))
                pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / f"p{person}_c{camera}_{shot}.png")
    return root


def settings_of(folder: Path, **changes) -> dict:
    return {
        "name": "test",
        "data": {"format": "identities", "root": str(folder), "pattern": "{identity}_c{camera}_*.png"},
        "input": {"size": [32, 16]},
        "model": VIT,
        "train": {"batch_size": 8},
        **changes,
    }


def retrieval(folder: Path, **changes) -> RetrievalTask:
    return RetrievalTask(RetrievalWorkflow.model_validate({"task": "reid/retrieval", **settings_of(folder, **changes)}))


def classification(folder: Path, **changes) -> ClassificationTask:
    config = {"task": "reid/classification", **settings_of(folder, **changes)}
    return ClassificationTask(ClassificationWorkflow.model_validate(config))


def fitted(task):
    table = task.read_cases()
    task.fit(table.cases)
    return task


def test_identities_are_groups_for_retrieval_and_pictures_for_classification(folder):
    assert {case.group for case in retrieval(folder).read_cases()} == {f"p{number}" for number in range(PEOPLE)}
    table = classification(folder).read_cases()
    assert len({case.group for case in table}) == len(table)


def test_samples_are_a_function_of_seed_pass_and_index(folder):
    task = fitted(retrieval(folder, augment={"zoom": [0.5, 1.0], "rotation": 10, "colour": {"probability": 1.0}}))
    cases = task.read_cases().cases
    data, again, other = (task.training_data(cases, seed=seed) for seed in (1, 1, 2))
    sent = pickle.loads(pickle.dumps(again))
    for key in [SampleKey(epoch, index) for epoch in range(2) for index in (0, 7, len(cases) + 3)]:
        for copy in (again, sent):
            assert torch.equal(copy[key]["image"], data[key]["image"])
        assert not torch.equal(other[key]["image"], data[key]["image"])
    assert data[SampleKey(0, 3)]["case_id"] == data[SampleKey(0, len(cases) + 3)]["case_id"]


def test_without_changes_a_sample_is_what_the_network_is_served(folder):
    task = fitted(retrieval(folder, augment={"enabled": False}))
    case = task.read_cases()[3]
    sample = task.training_data([*task.read_cases()], seed=0)[SampleKey(0, 3)]
    loaded = task.predictor(task.build_network(), device=torch.device("cpu")).read(task.item(case))
    assert np.array_equal(sample["image"].numpy(), task.given.normalise(loaded.picture))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {**VIT, "dcal": {}}},
        {"model": {"name": "efficientnet_lite0", "weights": "none", "stripes": 2}, "head": {"cameras": True}},
        {"model": {**VIT, "cameras": True}, "loss": {"circle": 1.0, "centre": 0.01}},
        {"model": {"name": "efficientnet_lite0", "weights": "none", "attention": {"name": "light"}}},
        {"model": {**VIT, "attention": {"name": "agent"}}, "head": {"margin": 0.3}},
    ],
    ids=["vit", "dcal", "stripes and a neck of cameras", "cameras", "light cnn", "agent and arcface"],
)
def test_a_batch_looks_like_the_example_and_every_part_learns(folder, changes):
    task = fitted(retrieval(folder, **changes))
    data = task.training_data(task.read_cases().cases, seed=0)
    keys = data.arrange(np.random.default_rng(0), 8)[:8]
    batch = data.collate([data[SampleKey(0, index)] for index in keys])
    example = task.example_batch(8)
    assert {name: value.shape for name, value in batch.items() if name != "case_id"} == {
        name: value.shape for name, value in example.items() if name != "case_id"
    }
    network = task.build_network().train()
    losses = task.loss_step(network, batch)
    losses["loss"].backward()
    learning = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    idle = [name for name, grad in learning.items() if grad is None or not grad.isfinite().all()]
    assert idle == []


@pytest.mark.parametrize("make", [retrieval, classification])
def test_a_described_task_serves_the_same(folder, make, tmp_path):
    task = fitted(make(folder, model={**VIT, "cameras": True}))
    description = task.describe()
    assert json.loads(json.dumps(description)) == description
    assert ("p0" in json.dumps(description)) is (make is classification)
    again = type(task).from_description(description)
    assert again.describe() == description
    network, copy = task.build_network(), again.build_network()
    copy.load_state_dict(network.state_dict())
    case = task.read_cases()[2]
    cpu = torch.device("cpu")
    served = [task.predictor(network, device=cpu), again.predictor(copy, device=cpu)]
    results = [one.infer(one.read(task.item(case))) for one in served]
    assert np.array_equal(results[0].embedding, results[1].embedding)
    predictor = served[1]
    items = predictor.discover([folder])
    assert len(items) == PEOPLE * CAMERAS * SHOTS
    written = predictor.write(items[0], predictor.infer(predictor.read(items[0])), tmp_path / "out")
    assert all(file.is_file() for file in written.files)
    assert ("class" in written.summary) is (make is classification)


def perfect(task, cases) -> dict:
    names = sorted({case.labels["identity"] for case in cases})
    return {
        case.case_id: {"embedding": np.eye(len(names), dtype=np.float32)[names.index(case.labels["identity"])]}
        for case in cases
    }


def test_cameras_ask_and_a_lost_picture_counts(folder):
    task = retrieval(folder, judge={"protocol": "cameras", "query_cameras": ["1"], "gallery_cameras": ["2"]})
    cases = task.read_cases().cases
    queries = task.reference(cases)
    assert {case.labels["camera"] for case in queries} == {"1"}
    observed = perfect(task, cases)
    rows = task.judge_set(cases, observed)
    assert len({row.case_id for row in rows}) == PEOPLE * SHOTS
    assert all(row.value == 1 for row in rows if row.metric == "map")
    lost = dict(observed)
    del lost["p0_c1_0"], lost["p1_c2_1"]
    of_map = {row.case_id: row for row in task.judge_set(cases, lost) if row.metric == "map"}
    assert of_map["p0_c1_0"].value == 0
    assert of_map["p1_c1_0"].value == 0.5
    assert of_map["p1_c1_0"].note == "1 of its matches have no embedding"
    assert of_map["p2_c1_0"].value == 1
    assert all(row.value == 0 for row in task.judge_set(cases, {}))
    names = [figure.name for figure in task.draw_set(cases, observed)]
    assert names == ["cmc", "ranked-lists"]


def test_each_picture_asks_for_those_of_other_cameras(folder):
    task = retrieval(folder)
    cases = task.read_cases().cases
    assert task.reference(cases) == cases
    rows = [row for row in task.judge_set(cases, perfect(task, cases)) if row.metric == "minp"]
    assert all(row.value == 1 for row in rows)
    alone = [case for case in cases if case.labels["identity"] == "p0" or case.labels["camera"] == "1"]
    by_id = {row.case_id: row for row in task.judge_set(alone, perfect(task, alone)) if row.metric == "map"}
    assert np.isnan(by_id["p1_c1_0"].value)
    assert by_id["p1_c1_0"].note == "nobody to find"
    assert by_id["p0_c1_0"].value == 1


def observed_at(cases, rng) -> dict[str, dict]:
    """Embeddings near a centre of each identity, with enough noise that some rankings are wrong."""
    centres = {name: rng.normal(size=8) for name in sorted({case.labels["identity"] for case in cases})}
    vectors = {case.case_id: centres[case.labels["identity"]] + 1.5 * rng.normal(size=8) for case in cases}
    return {name: {"embedding": (v / np.linalg.norm(v)).astype(np.float32)} for name, v in vectors.items()}


def test_rounds_with_one_picture_of_each_are_the_mean_of_single_rounds(folder):
    task = retrieval(folder, judge={"protocol": "one_each", "rounds": 4, "rounds_seed": 3})
    cases = task.read_cases().cases
    observed = observed_at(cases, np.random.default_rng(0))
    assert len(task.reference(cases)) == len(cases)
    rows = {row.case_id: row.value for row in task.judge_set(cases, observed) if row.metric == "map"}
    singles, by_case = [], {case.case_id: [] for case in cases}
    for roles in rounds_of(cases, task.config.judge):
        assert sorted(case.labels["identity"] for case in roles.gallery) == [f"p{person}" for person in range(PEOPLE)]
        single = [row for row in judge_queries(roles, observed, task.config.judge) if row.metric == "map"]
        assert len(single) == len(cases) - PEOPLE
        singles.append(np.mean([row.value for row in single]))
        for row in single:
            by_case[row.case_id].append(row.value)
    assert 0.3 < np.mean(singles) < 0.99
    assert task.pooled(cases, observed)["retrieval", "map_rounds"] == pytest.approx(np.mean(singles))
    assert rows == {name: pytest.approx(np.mean(values)) for name, values in by_case.items()}
    twice = task.pooled([*cases, *cases], observed)
    assert twice["retrieval", "map_rounds"] == pytest.approx(np.mean(singles))


def test_the_reranked_gallery_is_judged_beside_the_plain_one(folder):
    plain, again = (retrieval(folder, judge={"rerank": given}) for given in (None, {"k1": 4, "k2": 2}))
    cases = plain.read_cases().cases
    observed = observed_at(cases, np.random.default_rng(1))
    without, rows = plain.judge_set(cases, observed), again.judge_set(cases, observed)
    assert [row for row in rows if not row.metric.endswith("_reranked")] == without
    found = {row.case_id: row.value for row in rows if row.metric == "map_reranked"}
    whole = EmbeddingSet.of(
        np.stack([observed[case.case_id]["embedding"] for case in cases]),
        [case.labels["identity"] for case in cases],
        [case.labels["camera"] for case in cases],
    )
    scores = rerank(whole.embeddings, whole.embeddings, k1=4, k2=2)
    wanted = evaluate_retrieval(whole, whole, MATCHING_RULES["cameras"], scores=scores).ap
    assert [found[case.case_id] for case in cases] == pytest.approx(wanted)
    assert any(found[row.case_id] != row.value for row in without if row.metric == "map")
    with pytest.raises(ValueError, match="rerank compares by angles"):
        retrieval(folder, judge={"rerank": {}, "similarity": "euclidean"})


def test_a_protocol_without_queries_says_which_cameras_there_are(folder):
    plain = retrieval(folder).read_cases().cases
    task = retrieval(folder, judge={"protocol": "cameras", "query_cameras": ["01"], "gallery_cameras": ["2"]})
    with pytest.raises(DataError, match="0 ask and 10 are searched; cameras: 1, 2"):
        task.reference(plain)
    # It is told while the cases are read, not after the training.
    with pytest.raises(DataError, match=r"judge\.query_cameras: camera '01' took no picture; there are: 1, 2"):
        task.read_cases()


@pytest.mark.parametrize(
    "judge",
    [
        {"query_cameras": ["1"]},
        {"query_cameras": ["1"], "gallery_cameras": ["2"]},
        {"protocol": "cameras", "query_cameras": ["1"]},
        {"protocol": "each", "gallery_cameras": ["2"]},
    ],
)
def test_cameras_without_their_protocol_are_refused(folder, judge):
    with pytest.raises(ValueError, match="protocol cameras takes query_cameras and gallery_cameras"):
        retrieval(folder, judge=judge)


def test_too_few_identities_for_a_batch_are_told_before_training(folder):
    with pytest.raises(DataError, match="a batch of 64 needs"):
        fitted(retrieval(folder, train={"batch_size": 64}))
    fitted(retrieval(folder, train={"batch_size": 64}, sampling={"balanced": False}))


def test_accuracy_counts_failures_and_confusion_is_drawn(folder):
    task = fitted(classification(folder))
    cases = task.read_cases().cases
    network = task.build_network()
    predictor = task.predictor(network, device=torch.device("cpu"))
    result = predictor.infer(predictor.read(task.item(cases[0])))
    assert {row.metric for row in task.judge(cases[0], result)} == {row.metric for row in task.judge(cases[0], None)}
    observed = {case.case_id: {"guess": case.labels["identity"], "rank": 1} for case in cases}
    assert task.pooled(cases, observed)["mean", "accuracy"] == 1
    del observed[cases[0].case_id]
    observed[cases[1].case_id] = {"guess": "p3", "rank": 2}
    pooled = task.pooled(cases, observed)
    assert (pooled["mean", "accuracy"], pooled["mean", "accuracy_top5"]) == (18 / 20, 19 / 20)
    assert min(value for (_, metric), value in pooled.items() if metric == "recall") < 1
    (confusion,) = task.draw_set(cases, observed)
    counts = confusion.data.set_index("shows")
    assert counts.loc["p0", "p3"] == 1
    assert int(counts.to_numpy().sum()) == 19
    (look,) = task.draw(cases[0], result)
    assert look.image.shape == (32, 32, 3)


def test_ties_are_ranked_by_the_order_of_classes():
    logits = np.array([0.0, 1.0, 1.0, -1.0], dtype=np.float32)
    assert [rank_of(logits, label) for label in range(4)] == [3, 1, 2, 4]


def test_a_model_judges_only_classes_that_it_knows(folder, tmp_path):
    task = fitted(classification(folder))
    other = classification(tmp_path).config
    Image.new("RGB", (8, 8)).save(tmp_path / "stranger_c1_0.png")
    with pytest.raises(ConfigurationError, match="'stranger' is none of them"):
        task.with_workflow(other).read_cases()
    assert task.with_workflow(classification(folder).config).read_cases()


def test_damaged_and_missing_pictures_are_cases_not_crashes(folder, tmp_path):
    task = fitted(retrieval(folder))
    predictor = task.predictor(task.build_network(), device=torch.device("cpu"))
    (tmp_path / "cut.png").write_bytes((folder / "p0_c1_0.png").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "deep" / "x").mkdir(parents=True)
    Image.new("L", (5, 9)).save(tmp_path / "deep" / "x" / "grey.png")
    items = {item.item_id: item for item in predictor.discover([tmp_path, tmp_path / "gone.png"])}
    assert set(items) >= {"cut", "text", "deep-x-grey"}
    assert predictor.infer(predictor.read(items["deep-x-grey"])).embedding.shape == (16,)
    for item in (items["cut"], items["text"], next(item for item in items.values() if item.problem)):
        with pytest.raises(CaseError):
            predictor.read(item)


def test_a_whole_run_finds_colours_again(folder, tmp_path):
    from pipelines.config import load_workflow
    from pipelines.experiment.runner import run_workflow
    from workflows.tasks import register_tasks

    register_tasks()
    lines = settings_of(folder, split={"test": 0.4, "validation": 0}, sampling={"images": 2}, track={"enabled": False})
    lines["train"] = {"batch_size": 4, "epochs": 2, "device": "cpu"}
    lines["evaluate"] = {"resamples": 1000}
    workflow = tmp_path / "colours.yaml"
    workflow.write_text(json.dumps({"task": "reid/retrieval", "output": str(tmp_path / "runs"), **lines}))
    outcome = run_workflow(load_workflow(workflow))
    row = outcome.summary.query("metric == 'map' and `class` == 'retrieval'").iloc[0]
    assert row["mean"] > 0.9
    assert (outcome.run.root / "report.html").is_file()


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (retrieval, {}, r"train\.batch_size is 1, but head\.neck takes the variance of a batch"),
        (classification, {"model": {**VIT, "dcal": {}}}, r"train\.batch_size is 1, but model\.dcal\.pairs needs"),
    ],
)
def test_a_batch_of_one_is_refused_where_it_cannot_be_trained_on(folder, make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(folder, train={"batch_size": 1}, **changes)
    assert classification(folder, train={"batch_size": 1}).config.train.batch_size == 1


def test_cameras_of_some_pictures_alone_are_refused(folder, tmp_path):
    names = sorted(path.name for path in folder.iterdir())[:4]
    rows = [
        f"{folder / name},{name.split('_')[0]},{'' if place == 2 else place},test" for place, name in enumerate(names)
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,identity,camera,split", *rows]))
    data = {"format": "csv", "file": str(table)}
    with pytest.raises(DataError, match="1 of 4 pictures name no camera"):
        retrieval(folder, data=data).read_cases()
    # Pictures to learn from need none.
    table.write_text(table.read_text().replace(f"{rows[2]}", rows[2].replace(",test", ",train")))
    assert len(retrieval(folder, data=data).read_cases()) == 4
