"""Pictures with dots in them, labelled in each of the formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

PARTS = ("snout", "leftear", "rightear", "tailbase")
SIZE = (60, 80)


def dots(points: NDArray[np.floating[Any]], size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A grey picture with a coloured dot of five pixels at each point."""
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], np.uint8)
    image = np.full((*size, 3), 90, np.uint8)
    for at, (x, y) in enumerate(np.round(points).astype(int)):
        image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = colours[at % 4]
    return image


@pytest.fixture
def mouse(tmp_path: Path) -> Path:
    """A DeepLabCut table of ten frames, of which number 6 is not there; the tail of frame 3 is not labelled."""
    folder = tmp_path / "m4s1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows: list[list[str]] = [
        ["scorer", *["Ann"] * 8],
        ["bodyparts", *(part for part in PARTS for _ in "xy")],
        ["coords", *["x", "y"] * 4],
    ]
    for number in (0, 1, 2, 3, 4, 5, 7, 8, 9, 10):
        points = rng.uniform((10, 10), (70, 50), (4, 2))
        Image.fromarray(dots(points)).save(folder / f"img{number:03d}.jpg", quality=95)
        cells = [f"{value:.3f}" for value in points.ravel()]
        if number == 3:
            cells[6:] = ["", ""]
        rows.append([f"labeled-data/m4s1/img{number:03d}.png", *cells])
    with (folder / "CollectedData.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "CollectedData.csv"


@pytest.fixture
def crowd_json(tmp_path: Path) -> Path:
    """COCO's JSON: two persons and a crowd in the first picture, one in the second; the third shows nobody."""
    from domains.video.skeletons.joints import joint_set

    coco = joint_set("coco17")
    (tmp_path / "images").mkdir()
    annotations: list[dict[str, Any]] = []
    rng = np.random.default_rng(1)
    for image, boxes in ((1, ((2, 4, 30, 50), (40, 6, 36, 48))), (2, ((10, 10, 40, 40),))):
        for box in boxes:
            points = np.array(box[:2]) + rng.uniform(0.1, 0.9, (17, 2)) * box[2:]
            seen = np.where(np.arange(17) < 12, 2, 0)
            values = np.column_stack([points * (seen > 0)[:, None], seen]).ravel().tolist()
            told = {"id": len(annotations), "image_id": image, "category_id": 1, "bbox": list(box), "iscrowd": 0}
            annotations.append({**told, "area": box[2] * box[3] * 0.6, "keypoints": values, "num_keypoints": 12})
    empty = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [0, 0, 80, 60], "iscrowd": 1, "area": 4000}
    annotations.append({**empty, "keypoints": [0] * 51, "num_keypoints": 0})
    for number in (1, 2, 3):
        image_points = np.array([[20.0, 20], [60, 30]])
        Image.fromarray(dots(image_points)).save(tmp_path / "images" / f"{number:06d}.jpg")
    held = {
        "images": [{"id": number, "file_name": f"{number:06d}.jpg"} for number in (1, 2, 3)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(coco.joints)}],
    }
    path = tmp_path / "persons.json"
    path.write_text(json.dumps(held))
    return path
