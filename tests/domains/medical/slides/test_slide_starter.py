"""The starter for slides, as its README says: slides, features, a table, a run, predictions with a heatmap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from workflows.main import run

COLOURS = {"eosin": (225, 140, 165), "haematoxylin": (120, 90, 170)}


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """Glass with a square of tissue of four tiles, 0.5 µm per pixel."""
    pixels = np.full((480, 480, 3), 243.0)
    pixels[8:456, 8:456] = colour
    pixels += np.random.default_rng(seed).normal(0, 12, pixels.shape)
    about = {"photometric": "rgb", "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "tile": (256, 256)}
    tifffile.imwrite(path, np.clip(pixels, 0, 255).astype(np.uint8), compression="deflate", **about)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight slides of four patients, half of each stain, in the current folder."""
    (tmp_path / "slides").mkdir()
    for number in range(8):
        draw(tmp_path / "slides" / f"S{number:02d}.tif", COLOURS["eosin" if number % 4 < 2 else "haematoxylin"], number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_slides_become_predictions_with_the_commands_of_the_starter(folder: Path) -> None:
    assert run(["init", "medical/bags", "study"]) == 0
    assert run(["slides", "features", "slides", "--out", "study/features", "--device", "cpu"]) == 0
    rows = [(f"S{n:02d}", f"patient-{n // 2}", "eosin" if n % 4 < 2 else "haematoxylin") for n in range(8)]
    pd.DataFrame(rows, columns=["case_id", "group", "label"]).to_csv(folder / "study" / "slides.csv", index=False)
    assert run(["validate", "study/workflow.yaml"]) == 0
    changes = ["split.test=0.25", "split.validation=0", "train.epochs=6", "train.lr=5e-3", "model.hidden=[16]"]
    assert run(["run", "study/workflow.yaml", "track.enabled=false", *changes]) == 0
    runs = next(path.parent for path in folder.rglob("report.html"))
    parts = json.loads((runs / "splits.json").read_text(encoding="utf-8"))["parts"]
    held = parts["test"]
    assert len(held) == 2
    assert {rows[int(name[1:])][1] for name in held}.isdisjoint(rows[int(name[1:])][1] for name in parts["train"])

    name = held[0]
    assert run(["predict", str(runs), f"slides/{name}.tif", "--out", "predictions", "--device", "cpu"]) == 0
    told = json.loads((folder / "predictions" / name / f"{name}.json").read_text(encoding="utf-8"))
    assert told["instances"] == 4
    assert told["predicted"] == rows[int(name[1:])][2], "the two stains could not look less alike"
    assert (folder / "predictions" / name / f"{name}.heatmap.png").stat().st_size > 1000
