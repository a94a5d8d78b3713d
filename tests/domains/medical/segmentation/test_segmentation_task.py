"""The task from cases to written results, on the synthetic phantom."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from domains.medical.segmentation.phantom import draw_phantom
from domains.medical.segmentation.settings import SegmentationWorkflow
from domains.medical.segmentation.task import SegmentationTask
from pipelines.errors import CaseError, ConfigurationError
from pipelines.task import SampleKey

SIZE = (16, 20, 12)


def configure(folder: Path, **changes) -> SegmentationWorkflow:
    return SegmentationWorkflow.model_validate(
        {
            "task": "medical/segmentation",
            "name": "test",
            "output": str(folder),
            "data": {"format": "phantom", "cases": 6, "size": SIZE},
            "model": {"channels": [4, 8], "deep_supervision": 1, "attention": {"name": "full", "heads": 2}},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("phantom")


@pytest.fixture(scope="module")
def fitted(folder) -> SegmentationTask:
    task = SegmentationTask(configure(folder, augment={"mirror": {"axes": [0]}}))
    task.fit(task.read_cases().cases[:4])
    return task


def test_facts_are_plain_values(fitted):
    told = fitted.check_case(fitted.read_cases()[0])
    assert json.loads(json.dumps(told)) == told
    assert told["voxels_front"] > 0
    assert told["spacing_mm"] == "1×1×1"


def test_samples_are_a_function_of_seed_epoch_and_index(fitted):
    cases = fitted.read_cases().cases[:4]
    data, again, other = (fitted.training_data(cases, seed=seed) for seed in (1, 1, 2))
    sent = pickle.loads(pickle.dumps(again))
    keys = [SampleKey(epoch, index) for epoch in range(3) for index in range(len(data))]
    for key in keys:
        data_first = data[key]
        for copy in (data, again, sent):
            for name in ("image", "label"):
                assert torch.equal(copy[key][name], data_first[name])
    assert any(not torch.equal(data[key]["image"], other[key]["image"]) for key in keys)
    assert any(not torch.equal(data[SampleKey(0, 0)]["image"], data[SampleKey(e, 0)]["image"]) for e in range(1, 4))


def test_most_patches_hold_foreground_when_asked(folder):
    for share, low, high in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.9)):
        config = configure(folder, patches={"size": [4, 4, 4], "foreground": share}, augment={"enabled": False})
        task = SegmentationTask(config)
        cases = task.read_cases().cases[:4]
        task.fit(cases)
        data = task.training_data(cases, seed=0)
        hits = [bool((data[SampleKey(epoch, index)]["label"] > 0).any()) for epoch in range(20) for index in range(4)]
        assert low <= np.mean(hits) <= high


def test_a_case_beyond_the_memory_is_prepared_again(folder):
    task = SegmentationTask(configure(folder, preprocess={"cache_gigabytes": 0}, augment={"enabled": False}))
    cases = task.read_cases().cases[:2]
    task.fit(cases)
    data = task.training_data(cases, seed=0)
    assert torch.equal(data[SampleKey(0, 1)]["image"], data[SampleKey(0, 1)]["image"])


def test_a_batch_looks_like_the_example(fitted):
    data = fitted.training_data(fitted.read_cases().cases[:4], seed=0)
    batch = data.collate([data[SampleKey(0, index)] for index in range(2)])
    example = fitted.example_batch(2)
    assert {name: (value.shape, value.dtype) for name, value in batch.items() if name != "case_id"} == {
        name: (value.shape, value.dtype) for name, value in example.items() if name != "case_id"
    }
    losses = fitted.loss_step(fitted.build_network(), batch)
    assert set(losses) == {"loss", "dice_loss", "cross_entropy"}
    assert all(value.ndim == 0 for value in losses.values())


def test_a_described_task_predicts_the_same_labels(fitted):
    description = fitted.describe()
    assert json.loads(json.dumps(description)) == description
    again = SegmentationTask.from_description(description)
    assert again.describe() == description
    torch.manual_seed(0)
    network = fitted.build_network()
    copy = again.build_network()
    copy.load_state_dict(network.state_dict())
    case = fitted.read_cases()[5]
    results = []
    for task, weights in ((fitted, network), (again, copy)):
        predictor = task.predictor(weights, device=torch.device("cpu"))
        results.append(predictor.infer(predictor.read(task.item(case))).labels)
    assert np.array_equal(*results)


def test_a_described_task_judges_the_cases_of_another_workflow(fitted, folder):
    served = SegmentationTask.from_description(fitted.describe()).with_workflow(configure(folder))
    case = served.read_cases()[0]
    assert {row.class_name for row in served.judge(case, None)} == {"front", "back"}
    with pytest.raises(ConfigurationError, match="the model knows the classes front, back; the workflow has other"):
        fitted.with_workflow(configure(folder, classes={"other": 1})).read_cases()


class Oracle(torch.nn.Module):
    """Knows the phantom's contrast no more than by thresholds; what matters is the way of the labels."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([-image, image, image - 1.0], dim=1)


def test_labels_lie_on_the_grid_of_the_scan_in_any_orientation(fitted, tmp_path):
    import nibabel

    image, _ = draw_phantom(SIZE, seed=9, index=0)
    source = nibabel.Nifti1Image(image, np.eye(4))
    predictor = fitted.predictor(Oracle(), device=torch.device("cpu"))
    straight = None
    for codes in ("RAS", "LPS", "SRA", "AIL"):
        turned = source.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
            )
        )
        path = tmp_path / f"{codes}.nii.gz"
        nibabel.save(turned, path)
        (item,) = predictor.discover([path])
        result = predictor.infer(predictor.read(item))
        written = predictor.write(item, result, tmp_path / "out" / codes)
        assert all(file.is_file() for file in written.files)
        saved = nibabel.load(written.files[0])
        assert saved.shape == turned.shape
        np.testing.assert_array_equal(saved.affine, turned.affine)
        back = np.asarray(nibabel.as_closest_canonical(saved).dataobj)
        straight = back if straight is None else straight
        assert np.array_equal(back, straight)
    assert len(np.unique(straight)) > 1


def test_a_written_result_says_its_volumes(fitted, tmp_path):
    case = fitted.read_cases()[0]
    predictor = fitted.predictor(Oracle(), device=torch.device("cpu"))
    item = fitted.item(case)
    result = predictor.infer(predictor.read(item))
    written = predictor.write(item, result, tmp_path)
    assert sorted(file.name for file in written.files) == sorted(path.name for path in tmp_path.iterdir())
    report = json.loads((tmp_path / f"{case.case_id}.json").read_text())
    front = report["structures"]["front"]
    assert front["voxels"] == int((result.labels == 1).sum())
    assert front["volume_ml"] == pytest.approx(front["voxels"] / 1000, abs=1e-4)
    assert {"read", "prepare", "infer", "write"} <= set(report["seconds"])
    assert json.loads(json.dumps(written.summary)) == written.summary


def test_the_reference_itself_is_judged_perfect_and_nothing_the_worst(fitted):
    from dataclasses import replace

    from domains.medical.segmentation.reading import read_image, read_reference

    case = fitted.read_cases()[0]
    predictor = fitted.predictor(Oracle(), device=torch.device("cpu"))
    result = predictor.infer(predictor.read(fitted.item(case)))
    scan = read_image(case, channels=1)
    perfect = replace(result, labels=read_reference(case, scan, fitted._classes))
    values = {(row.class_name, row.metric): row.value for row in fitted.judge(case, perfect)}
    assert values["front", "dice"] == values["back", "dice"] == values["front", "nsd"] == 1.0
    missed = {(row.class_name, row.metric): row for row in fitted.judge(case, None)}
    assert missed["front", "dice"].value == 0
    assert missed["front", "dice"].note.startswith("failed")
    (figure,) = fitted.draw(case, perfect)
    assert figure.image.dtype == np.uint8


def test_a_short_training_learns_the_phantom(folder):
    model = {"channels": [8, 16], "deep_supervision": 1, "attention": {"name": "window", "window": 4}}
    task = SegmentationTask(configure(folder, model=model, augment={"enabled": False}))
    cases = task.read_cases().cases
    task.fit(cases[:4])
    torch.manual_seed(0)
    network = task.build_network()
    data = task.training_data(cases[:4], seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for epoch in range(40):
        loss = task.loss_step(network, data.collate([data[SampleKey(epoch, index)] for index in range(4)]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]
    predictor = task.predictor(network, device=torch.device("cpu"))
    rows = task.judge(cases[1], predictor.infer(predictor.read(task.item(cases[1]))))
    assert np.mean([row.value for row in rows if row.metric == "dice"]) > 0.9


def test_a_scan_with_other_axes_is_refused(fitted, tmp_path):
    from PIL import Image

    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "photo.png")
    predictor = fitted.predictor(Oracle(), device=torch.device("cpu"))
    (item,) = predictor.discover([tmp_path / "photo.png"])
    with pytest.raises(CaseError, match="2 axes; the model was trained on 3"):
        predictor.read(item)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"patches": {"size": [8, 8]}}, "patches.size has 2 axes, the cases have 3", id="patch"),
        pytest.param({"preprocess": {"spacing": [1, 1]}}, "preprocess.spacing has 2 axes", id="spacing"),
        pytest.param({"model": {"strides": [[2, 2], [2, 2], [2, 2]]}}, r"model.strides\[0\] has 2 axes", id="strides"),
    ],
)
def test_a_workflow_for_other_axes_is_refused(folder, changes, message):
    task = SegmentationTask(configure(folder, **changes))
    with pytest.raises(ConfigurationError, match=message):
        task.fit(task.read_cases().cases[:2])


def test_heads_that_do_not_divide_are_refused_by_name(folder):
    task = SegmentationTask(
        configure(folder, model={"channels": [4, 9], "deep_supervision": 1, "attention": {"name": "full", "heads": 4}})
    )
    task.fit(task.read_cases().cases[:2])
    with pytest.raises(ConfigurationError, match="full cannot be built for 9 channels"):
        task.build_network()
