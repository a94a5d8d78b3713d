"""Cases that cannot be used are named, with the reason and what to do."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from domains.medical.segmentation.settings import SegmentationWorkflow
from domains.medical.segmentation.task import SegmentationTask
from pipelines.cases import Case
from pipelines.errors import CaseError, ConfigurationError, DataError

IMAGE = np.random.default_rng(0).normal(100, 10, (8, 9, 7)).astype(np.float32)
LABEL = np.zeros((8, 9, 7), np.uint8)
LABEL[2:5, 3:6, 2:4] = 1
SHIFTED = np.eye(4)
SHIFTED[0, 3] = 2.0
STRANGE = LABEL.copy()
STRANGE[0, 0, 0] = 7


def task_for(folder: Path, **changes) -> SegmentationTask:
    settings = {
        "task": "medical/segmentation",
        "name": "test",
        "data": {"format": "folders", "root": str(folder), "images": "{case}.image.nii", "labels": "{case}.label.nii"},
        "classes": {"tumour": 1},
        "preprocess": {"channels": 1},
        **changes,
    }
    return SegmentationTask(SegmentationWorkflow.model_validate(settings))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize(
    ("label", "affine", "reason"),
    [
        pytest.param(STRANGE, None, "label values outside the classes: 7", id="a value without a class"),
        pytest.param(LABEL[1:], None, "shape mismatch: image 8×9×7, label 7×9×7", id="another shape"),
        pytest.param(LABEL, SHIFTED, "affine mismatch: image and label lie up to 2.00 mm apart", id="another place"),
        pytest.param(np.zeros_like(LABEL), None, "empty label", id="nothing labelled"),
        pytest.param(LABEL + 0.5, None, "label: label values are not whole numbers", id="fractions"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(tmp_path, label, affine, reason):
    image = save(tmp_path / "a.image.nii", IMAGE)
    path = save(tmp_path / "a.label.nii", label, affine)
    with pytest.raises(CaseError, match=reason) as caught:
        task_for(tmp_path).check_case(Case("case_a", "a", {"image": image, "label": path}))
    assert caught.value.case_id == "case_a"
    assert caught.value.hint
    assert str(tmp_path) not in str(caught.value)


def test_an_image_without_a_label_is_refused(tmp_path):
    image = save(tmp_path / "a.image.nii", IMAGE)
    with pytest.raises(CaseError, match="image without a label"):
        task_for(tmp_path).check_case(Case("a", "a", {"image": image}))


def test_several_values_may_mean_one_class(tmp_path):
    both = LABEL.copy()
    both[2, 3, 2] = 4
    image, label = save(tmp_path / "a.image.nii", IMAGE), save(tmp_path / "a.label.nii", both)
    told = task_for(tmp_path, classes={"tumour": [1, 4]}).check_case(Case("a", "a", {"image": image, "label": label}))
    assert told["voxels_tumour"] == int(LABEL.sum())


def test_an_image_of_one_file_for_each_channel_is_read_together(tmp_path):
    paths = {f"image_{number}": save(tmp_path / f"a_{number}.nii", IMAGE * (number + 1)) for number in range(2)}
    label = save(tmp_path / "a.label.nii", LABEL)
    case = Case("a", "a", {**paths, "label": label})
    task = task_for(tmp_path, preprocess={"channels": 2})
    task.fit([case])
    network = task.build_network()
    import torch

    predictor = task.predictor(network, device=torch.device("cpu"))
    assert predictor.read(task.item(case)).prepared.image.shape == (2, 8, 9, 7)


def test_classes_must_be_known(tmp_path):
    save(tmp_path / "a.image.nii", IMAGE)
    save(tmp_path / "a.label.nii", LABEL)
    task = task_for(tmp_path, classes={})
    with pytest.raises(DataError, match="names no classes"):
        task.check_case(task.read_cases()[0])


def test_a_value_cannot_stand_for_two_classes(tmp_path):
    with pytest.raises(ValueError, match="value 1 stands for 'a' and for 'b'"):
        task_for(tmp_path, classes={"a": 1, "b": [1, 2]})


def test_attention_that_does_not_serve_the_axes_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    from dataclasses import replace

    from domains.medical.segmentation import attention_settings

    known = attention_settings.cards()
    monkeypatch.setattr(
        attention_settings, "cards", lambda: {**known, "window": replace(known["window"], ranks=frozenset({2}))}
    )
    with pytest.raises(ConfigurationError, match=r"window does not serve grids of 3 axes; use one of: none, .*full"):
        task_for(tmp_path, model={"attention": {"name": "window"}}, patches={"size": [8, 8, 8]})


def test_ct_statistics_come_from_labelled_voxels_of_the_training_part_alone(tmp_path):
    cases = []
    for index, level in enumerate((40.0, 60.0, 5000.0)):
        image = np.full(LABEL.shape, -1000.0, np.float32) + np.arange(LABEL.size).reshape(LABEL.shape) % 2
        image[LABEL == 1] = level + np.arange(LABEL.sum()) % 5
        paths = {
            "image": save(tmp_path / f"{index}.image.nii", image),
            "label": save(tmp_path / f"{index}.label.nii", LABEL),
        }
        cases.append(Case(str(index), str(index), paths))
    task = task_for(tmp_path, preprocess={"intensity": {"name": "ct"}})
    for case in cases:
        task.check_case(case)
    task.fit(cases[:2])
    intensity = task.describe()["plan"]["preprocessing"]["intensity"]
    assert 40 <= intensity["window"][0] < intensity["window"][1] <= 64
    assert 45 < intensity["mean"] < 60


def test_auto_spacing_is_the_median_of_the_training_part(tmp_path):
    cases = []
    for index, step in enumerate((1.0, 2.0, 3.0)):
        affine = np.diag([1.0, 1.0, step, 1.0])
        paths = {
            "image": save(tmp_path / f"{index}.image.nii", IMAGE, affine),
            "label": save(tmp_path / f"{index}.label.nii", LABEL, affine),
        }
        cases.append(Case(str(index), str(index), paths))
    task = task_for(tmp_path, preprocess={"spacing": "auto"})
    task.fit(cases)
    assert task.describe()["plan"]["preprocessing"]["spacing"] == [1.0, 1.0, 2.0]
