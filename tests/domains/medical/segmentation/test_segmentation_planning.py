"""Patch and strides from shapes and spacings; the phantom; the workflow files."""

import math
from pathlib import Path

import numpy as np
import pytest

from domains.medical.segmentation.phantom import draw_phantom, write_phantom
from domains.medical.segmentation.planning import plan_patch, plan_strides, round_up
from pipelines.config.load import load_workflow
from pipelines.task import registered_tasks


@pytest.mark.parametrize(
    ("patch", "spacing", "levels", "expected"),
    [
        pytest.param((40, 56, 40), (1, 1, 1), 4, [(2, 2, 2)] * 3, id="isotropic"),
        pytest.param((128, 128, 16), (0.5, 0.5, 5.0), 4, [(2, 2, 1)] * 3, id="thick slices"),
        pytest.param((64, 64, 32), (1, 1, 3), 4, [(2, 2, 1), (2, 2, 2), (2, 2, 2)], id="slices thrice as thick"),
        pytest.param((64, 64, 1), (1, 1, 1), 3, [(2, 2, 1)] * 2, id="one slice"),
        pytest.param((8, 64), (1, 1), 4, [(2, 2), (1, 2), (1, 2)], id="a narrow image"),
    ],
)
def test_strides_follow_extent_and_spacing(patch, spacing, levels, expected):
    assert plan_strides(patch, spacing, levels) == tuple(expected)


@pytest.mark.parametrize("shapes", [[(35, 50, 36)] * 3, [(512, 512, 300)] * 2, [(600, 500)], [(1, 2000, 2000)]])
def test_a_patch_is_the_median_shape_made_small_enough(shapes):
    rank = len(shapes[0])
    limit = 256**2 if rank == 2 else 96**3
    patch = plan_patch(shapes, (1.0,) * rank)
    assert math.prod(patch) <= limit
    assert all(1 <= length <= full for length, full in zip(patch, shapes[0], strict=True))
    if math.prod(shapes[0]) <= limit:
        assert patch == shapes[0]
    else:
        assert math.prod(patch) > 0.8 * limit


def test_a_patch_is_rounded_up_to_what_the_strides_divide():
    assert round_up((35, 50, 36), ((2, 2, 2), (2, 2, 2), (2, 2, 1))) == (40, 56, 36)


def test_the_phantom_is_seeded_says_that_it_is_synthetic_and_is_written_once(tmp_path):
    for index in range(5):
        image, labels = draw_phantom((24, 28, 20), seed=3, index=index)
        again, _ = draw_phantom((24, 28, 20), seed=3, index=index)
        assert np.array_equal(image, again)
        assert set(np.unique(labels)) == {0, 1, 2}
        assert 0.005 < (labels > 0).mean() < 0.25
    table = write_phantom(tmp_path, cases=3, size=(16, 16, 16), seed=0)
    assert "synthetic" in table.name
    stamps = {path: path.stat().st_mtime_ns for case in table for path in case.paths.values()}
    write_phantom(tmp_path, cases=3, size=(16, 16, 16), seed=0)
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert all(b"synthetic" in path.read_bytes()[:348] for path in stamps)


@pytest.mark.parametrize("name", ["hippocampus", "hippocampus-quick", "phantom", "drive"])
def test_the_workflow_files_are_valid(name, tmp_path):
    if "medical/segmentation" not in {entry.name for entry in registered_tasks()}:
        from workflows.tasks import register_tasks

        register_tasks()
    path = Path(__file__).parents[4] / "workflows" / "medical" / f"{name}.yaml"
    resolved = load_workflow(path, env={"PULVINAR_DATA": str(tmp_path)})
    assert resolved.config.name == name
    assert resolved.notices == () or list(resolved.notices) == []
