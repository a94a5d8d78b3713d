"""Segmentation metrics against brute force, MONAI and arithmetic."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.medical.segmentation.metrics import METRICS, metric_rows, segmentation_metrics

ONE = {"structure": 1}
AGREEMENT = ("dice", "iou", "nsd", "sensitivity", "precision")


def judge(prediction: Any, reference: Any, spacing: Any = None, **options: Any) -> Any:
    spacing = spacing or (1.0,) * np.ndim(reference)
    return segmentation_metrics(prediction, reference, spacing, classes=ONE, **options)["structure"]


def surface_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Voxel by voxel: on the surface is what has a face neighbour outside the structure or outside the image."""
    points = []
    for place in product(*map(range, mask.shape)):
        if not mask[place]:
            continue
        for axis, step in product(range(mask.ndim), (-1, 1)):
            beside = list(place)
            beside[axis] += step
            outside = not 0 <= beside[axis] < mask.shape[axis]
            if outside or not mask[tuple(beside)]:
                points.append([index * size for index, size in zip(place, spacing, strict=True)])
                break
    return np.array(points)


def brute_force(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> dict:
    p, r = surface_points(prediction, spacing), surface_points(reference, spacing)
    apart = np.sqrt(((p[:, None, :] - r[None, :, :]) ** 2).sum(-1))
    forth, back = apart.min(axis=1), apart.min(axis=0)
    both = [*forth, *back]
    return {
        "hd95": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "assd": sum(both) / len(both),
        "nsd": sum(distance <= tolerance + 1e-6 for distance in both) / len(both),
    }


shapes = st.one_of(
    st.tuples(*[st.integers(2, 6)] * 3),
    st.tuples(*[st.integers(2, 9)] * 2),
)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 2**31), st.floats(0.05, 0.95), st.data())
def test_distances_agree_with_all_pairs(shape: tuple[int, ...], seed: int, density: float, data: st.DataObject) -> None:
    spacing = data.draw(st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 3.3])] * len(shape)))
    tolerance = data.draw(st.sampled_from([0.0, 0.7, 1.0, 2.1, 4.0]))
    generator = np.random.default_rng(seed)
    prediction, reference = (generator.random(shape) < density for _ in range(2))
    prediction.flat[0] = reference.flat[-1] = True
    found = judge(prediction.astype(np.uint8), reference.astype(np.uint8), spacing, tolerance=tolerance).values
    for metric, value in brute_force(prediction, reference, spacing, tolerance).items():
        assert found[metric] == pytest.approx(value, abs=1e-9), metric
    common = (prediction & reference).sum()
    assert found["dice"] == pytest.approx(2 * common / (prediction.sum() + reference.sum()))
    assert found["iou"] == pytest.approx(common / (prediction | reference).sum())
    assert found["sensitivity"] == pytest.approx(common / reference.sum())
    assert found["precision"] == pytest.approx(common / prediction.sum())


def real_pair(data_root: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    path = sorted((data_root / "msd_hippocampus" / "labelsTr").glob("*.nii.gz"))[0]
    reference = np.asarray(nib.load(path).dataobj).astype(np.uint8)
    return np.roll(reference, (1, -2), (0, 1)), reference


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 0.9, 2.5)], ids=["isotropic", "anisotropic"])
def test_same_numbers_as_monai_on_a_hippocampus(data_root: Path, spacing: tuple[float, ...]) -> None:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    prediction, reference = real_pair(data_root)
    found = segmentation_metrics(prediction, reference, spacing, classes={"a": 1, "p": 2}, tolerance=1.5)
    one_hot = [
        torch.stack([torch.from_numpy(labels == value) for value in (1, 2)])[None].float()
        for labels in (prediction, reference)
    ]
    options: Any = {"include_background": True, "spacing": spacing}
    oracle = {
        "hd95": compute_hausdorff_distance(*one_hot, percentile=95, **options),
        "assd": compute_average_surface_distance(*one_hot, symmetric=True, **options),
        "nsd": compute_surface_dice(*one_hot, class_thresholds=[1.5, 1.5], **options),
    }
    for metric, values in oracle.items():
        for name, value in zip(("a", "p"), values[0].tolist(), strict=True):
            assert found[name].values[metric] == pytest.approx(value, abs=1e-4), (metric, name)


@pytest.mark.parametrize("shape", [(12, 9, 5), (20, 30)], ids=["3d", "2d"])
def test_agreement_is_perfect_with_itself_even_at_the_border(shape: tuple[int, ...]) -> None:
    whole = np.ones(shape, dtype=np.int64)
    found = judge(whole, whole).values
    assert [found[metric] for metric in AGREEMENT] == [1.0] * 5
    assert found["hd95"] == found["assd"] == 0


CONVENTIONS = [
    pytest.param(False, False, math.nan, math.nan, "both empty", id="both empty"),
    pytest.param(False, True, 0.0, 13.0, "missed", id="missed"),
    pytest.param(True, False, 0.0, 13.0, "invented", id="invented"),
    pytest.param(None, True, 0.0, 13.0, "failed: no prediction", id="failed"),
    pytest.param(None, False, 0.0, 13.0, "failed: no prediction", id="failed where the reference is empty"),
]


@pytest.mark.parametrize(("predicted", "present", "agreement", "distance", "note"), CONVENTIONS)
def test_conventions(predicted: bool | None, present: bool, agreement: float, distance: float, note: str) -> None:
    labels = {state: np.zeros((3, 2, 4), dtype=np.uint8) for state in (True, False)}
    labels[True][1, 1, 1] = 1
    # 3 × 1 mm, 2 × 2 mm, 4 × 3 mm: the diagonal of the image is 13 mm.
    found = judge(None if predicted is None else labels[predicted], labels[present], (1.0, 2.0, 3.0))
    assert found.note == note
    assert [found.values[name] for name in AGREEMENT] == pytest.approx([agreement] * 5, nan_ok=True)
    assert [found.values[name] for name in ("hd95", "assd")] == pytest.approx([distance] * 2, nan_ok=True)


def test_no_prediction_can_be_farther_than_a_missed_one() -> None:
    prediction, reference = np.zeros((2, 5, 6, 7), dtype=np.uint8)
    prediction[0, 0, 0] = reference[-1, -1, -1] = 1
    apart = judge(prediction, reference, (2.0, 1.0, 0.5)).values["hd95"]
    assert apart < judge(np.zeros_like(reference), reference, (2.0, 1.0, 0.5)).values["hd95"]


def test_volumes_are_in_millilitres_and_areas_in_square_millimetres() -> None:
    block = np.zeros((10, 10, 10), dtype=np.uint8)
    block[:5, :4, :2] = 1
    volume = judge(block, np.ones_like(block), (2.0, 1.0, 0.5)).values
    assert (volume["volume"], volume["reference_volume"]) == pytest.approx((0.040, 1.0))
    area = judge(block[:, :, 0], np.ones((10, 10), dtype=np.uint8), (2.0, 0.5)).values
    assert (area["area"], area["reference_area"]) == pytest.approx((20.0, 100.0))
    assert "volume" not in area


def test_a_single_voxel_a_known_distance_away() -> None:
    prediction, reference = np.zeros((2, 9, 9, 9), dtype=np.uint8)
    prediction[1, 1, 1] = reference[4, 5, 1] = 1
    found = judge(prediction, reference, tolerance=5.0).values
    assert (found["hd95"], found["assd"], found["nsd"]) == (5.0, 5.0, 1.0)
    assert judge(prediction, reference, tolerance=4.99).values["nsd"] == 0


@pytest.mark.parametrize("offset", range(6))
def test_a_distance_of_exactly_the_tolerance_is_within_it_wherever_it_lies(offset: int) -> None:
    prediction, reference = np.zeros((2, 12, 3), dtype=np.uint8)
    prediction[offset, 1] = reference[offset + 3, 1] = 1
    assert judge(prediction, reference, (0.7, 0.7), tolerance=2.1).values["nsd"] == 1


def test_an_axis_of_length_one_has_no_surface() -> None:
    generator = np.random.default_rng(0)
    prediction, reference = (generator.random((2, 12, 15)) < 0.5).astype(np.uint8)
    flat = judge(prediction, reference, (0.5, 2.0)).values
    slab = judge(prediction[:, None], reference[:, None], (0.5, 30.0, 2.0)).values
    for metric in ("hd95", "assd", "nsd", "dice"):
        assert slab[metric] == flat[metric]


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 5)], ids=str)
def test_an_image_without_voxels_holds_nothing(shape: tuple[int, ...]) -> None:
    assert judge(np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)).note == "both empty"


def test_outside_the_region_nothing_counts() -> None:
    reference = np.zeros((8, 8), dtype=np.uint8)
    reference[2:4, 2:4] = 1
    prediction = reference.copy()
    prediction[6:, 6:] = 1
    region = np.zeros((8, 8), dtype=bool)
    region[:5, :5] = True
    assert judge(prediction, reference).values["dice"] < 1
    inside = judge(prediction, reference, region=region.astype(np.uint8) * 255)
    assert (inside.values["dice"], inside.values["hd95"], inside.values["area"]) == (1.0, 0.0, 4.0)
    assert judge(prediction, reference, region=~region).note == "invented"


def test_classes_take_their_own_values_and_may_overlap() -> None:
    reference = np.array([[0, 1, 2, 300], [0, 1, 2, 300]], dtype=np.int32)
    prediction = np.array([[0, 1, 1, 300], [0, 1, 1, -7]], dtype=np.int32)
    classes = {"one": 1, "two": 2, "whole": (1, 2), "far": 300, "nowhere": 9}
    found = segmentation_metrics(prediction, reference, (1, 1), classes=classes)
    assert {name: found[name].values["dice"] for name in ("one", "two", "whole")} == pytest.approx(
        {"one": 2 / 3, "two": 0.0, "whole": 1.0}
    )
    assert found["far"].values["dice"] == pytest.approx(2 / 3)
    assert (found["two"].note, found["nowhere"].note) == ("missed", "both empty")


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "uint16", "int64", "uint64"])
def test_every_whole_number_type_gives_the_same(kind: str) -> None:
    generator = np.random.default_rng(1)
    prediction, reference = (generator.random((2, 6, 7, 5)) < 0.4).astype(kind)
    expected = judge(prediction.astype(np.uint8), reference.astype(np.uint8)).values
    assert judge(prediction, reference).values == expected


def test_each_class_has_its_tolerance() -> None:
    prediction, reference = np.zeros((2, 9, 9), dtype=np.uint8)
    prediction[0, 0], reference[0, 2], prediction[8, 0], reference[8, 2] = 1, 1, 2, 2
    found = segmentation_metrics(
        prediction, reference, (1, 1), classes={"a": 1, "b": 2}, tolerance={"a": 1.0, "b": 2.0}
    )
    assert (found["a"].values["nsd"], found["b"].values["nsd"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"prediction": np.zeros((4, 5), int)}, "shape", id="another shape"),
        pytest.param({"prediction": np.zeros((4, 4))}, "float64", id="not labels"),
        pytest.param({"spacing": (1.0,)}, "spacing", id="too few spacings"),
        pytest.param({"spacing": (1.0, 0.0)}, "spacing", id="no extent"),
        pytest.param({"spacing": (1.0, math.nan)}, "spacing", id="unknown extent"),
        pytest.param({"reference": np.zeros(4, int), "prediction": None}, "axes", id="one axis"),
        pytest.param({"region": np.zeros((2, 2))}, "region", id="a region of another shape"),
        pytest.param({"classes": {"a": ()}}, "classes", id="a class without a value"),
    ],
)
def test_refuses_what_does_not_fit(changed: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "prediction": np.zeros((4, 4), int),
        "reference": np.zeros((4, 4), int),
        "spacing": (1.0, 1.0),
        "classes": ONE,
    }
    with pytest.raises(ValueError, match=message):
        segmentation_metrics(**(good | changed))


def test_rows_carry_case_class_metric_and_note() -> None:
    reference = np.ones((4, 4), dtype=np.uint8)
    rows = metric_rows("case 1", segmentation_metrics(reference * 0, reference, (1, 1), classes=ONE))
    assert {row.metric for row in rows} <= set(METRICS)
    assert {(row.case_id, row.class_name, row.note) for row in rows} == {("case 1", "structure", "missed")}


def test_vessels_within_the_field_of_view(data_root: Path) -> None:
    from PIL import Image

    folder = data_root / "drive_retina" / "test"
    first, second, region = (
        np.asarray(Image.open(folder / name).convert("L"))
        for name in ("1st_manual/01_manual1.png", "2nd_manual/01_manual2.png", "mask/01_test_mask.png")
    )
    found = judge((second > 127).astype(np.uint8), (first > 127).astype(np.uint8), region=region).values
    inside = region > 0
    a, b = (second > 127) & inside, (first > 127) & inside
    assert found["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert 0.75 < found["dice"] < 0.85
