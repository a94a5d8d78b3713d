"""A run folder as a finished run on 3-D scans leaves it, made from a seed."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.runs import RunFolder

CLASSES = {"anterior": 0.89, "posterior": 0.87}
METRICS = ("dice", "hd95", "assd", "nsd")


def write_table(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    path.write_text(text.getvalue())


def make_run(root: Path, *, cases: int = 52, failed: int = 1, seed: int = 5, synthetic: bool = False) -> RunFolder:
    """Writes every file that a report reads."""
    random = np.random.default_rng(seed)
    run = RunFolder(root)
    run.root.mkdir(parents=True)
    ids = [f"hippocampus_{index:03d}" for index in range(1, 5 * cases + 1)]
    parts = {"test": ids[:cases], "train": ids[cases : 4 * cases], "validation": ids[4 * cases :]}
    write_details(run, parts, synthetic=synthetic)
    write_history(run, random)
    write_evaluation(run, parts["test"], failed, random)
    write_pictures(run, parts["test"], random)
    return run


def write_details(run: RunFolder, parts: dict[str, list[str]], *, synthetic: bool) -> None:
    run.update_status(
        state="finished",
        name="hippocampus",
        task="medical/segmentation",
        started="2026-11-21T09:12:40+00:00",
        seconds=3131.5,
        best_epoch=41,
        best_score=0.8846,
        part="test",
        synthetic=synthetic,
        selection_metric="dice",
    )
    run.config.write_text(
        "task: medical/segmentation\nname: hippocampus\nseed: 5\ndata:\n  root: /srv/archive/msd_hippocampus\n"
        "model:\n  attention:\n    name: window\n    window: 7\ntrain:\n  epochs: 60\n  lr: 0.0003\n"
        "evaluate:\n  confidence: 0.95\n  resamples: 2000\n"
    )
    run.write_json(
        run.provenance,
        {"model.attention.name": "command line", "train.lr": "hippocampus.yaml:21:9", "seed": "default"},
    )
    run.write_json(
        run.environment,
        {
            "pulvinar": "0.1.0",
            "commit": "3be78436a1d2c4f5e6b7a8091a2b3c4d5e6f7a8b-dirty",
            "python": "3.11.9",
            "system": "Linux x86_64",
            "device": "cpu",
            "threads": 2,
            "seed": 5,
            "data_digest": "b4c1e0a97f5d4f0e",
            "packages": {"torch": "2.13.0", "monai": "1.6.1"},
        },
    )
    rows: list[list[object]] = [[case, case, part, "left"] for part, listed in parts.items() for case in listed]
    write_table(run.cases, ["case_id", "group", "split", "side"], rows)
    run.write_json(
        run.splits,
        {
            "parts": parts,
            "cases": {part: len(listed) for part, listed in parts.items()},
            "strata": {
                part: {"left": len(listed) // 2, "right": -(-len(listed) // 2)} for part, listed in parts.items()
            },
            "notes": [],
        },
    )
    write_table(
        run.excluded,
        ["case_id", "reason", "hint"],
        [["hippocampus_367", "label 3 is outside the classes 0 to 2", "Correct the label or add the class."]],
    )


def write_history(run: RunFolder, random: np.random.Generator) -> None:
    columns = [
        "epoch",
        "step",
        "seconds",
        "lr",
        "train/loss",
        "train/dice_loss",
        "train/cross_entropy",
        "validation/dice",
    ]
    columns += [f"validation/dice/{name}" for name in CLASSES]
    rows: list[list[object]] = []
    for epoch in range(1, 61):
        fall = math.exp(-epoch / 12)
        scores = [best - 0.5 * fall + random.normal(0, 0.004) for best in CLASSES.values()]
        parts = [0.11 + 0.6 * fall + random.normal(0, 0.006), 0.08 + 0.5 * fall + random.normal(0, 0.006)]
        mean = float(np.mean(scores))
        rate = 3e-4 * (1 - epoch / 61) ** 0.9
        rows.append([epoch, epoch * 40, 52.1, rate, sum(parts), *parts, mean, *scores])
    write_table(run.history, columns, rows)


def write_evaluation(run: RunFolder, case_ids: list[str], failed: int, random: np.random.Generator) -> None:
    rows: list[list[object]] = []
    for index, case_id in enumerate(case_ids):
        for name, best in CLASSES.items():
            dice = min(0.97, best - random.gamma(1.6, 0.012))
            values = [dice, 14 * (1 - dice) + random.gamma(2, 0.1), 3 * (1 - dice), min(1.0, dice + 0.08)]
            note = ""
            if index < failed:
                values, note = [0.0, 74.2, 74.2, 0.0], "failed: the image is cut off after 12 of 40 slices"
            elif index == failed and name == "posterior":
                values, note = [0.0, 74.2, 74.2, 0.0], "missed"
            elif index == failed + 1 and name == "anterior":
                values, note = [math.nan] * 4, "both empty"
            rows += [
                [case_id, f"patient {index}", name, metric, value, note]
                for metric, value in zip(METRICS, values, strict=True)
            ]
    write_table(run.evaluation / "test.cases.csv", ["case_id", "group", "class", "metric", "value", "note"], rows)
    summary: list[list[object]] = []
    for name in CLASSES:
        for metric in METRICS:
            values = np.array([row[4] for row in rows if row[2] == name and row[3] == metric], dtype=float)
            known = values[~np.isnan(values)]
            drawn = random.choice(known, (200, known.size)).mean(axis=1) if known.size else np.full(1, math.nan)
            low, high = np.quantile(drawn, [0.025, 0.975])
            mean = known.mean() if known.size else math.nan
            counts = [known.size, known.size, int(np.isnan(values).sum()), failed]
            summary.append([name, metric, mean, low, high, *counts])
    for metric in METRICS:
        own = np.array([row[2:5] for row in summary if row[1] == metric], dtype=float).mean(axis=0)
        summary.append(["mean", metric, *own, len(case_ids), len(case_ids), 1, failed])
    columns = ["class", "metric", "mean", "low", "high", "cases", "groups", "undefined", "failed"]
    write_table(run.evaluation / "test.summary.csv", columns, summary)


def write_pictures(run: RunFolder, case_ids: list[str], random: np.random.Generator) -> None:
    """Three planes side by side, with a filled prediction and an outlined reference."""
    run.figures.mkdir()
    entries = []
    for case_id in [*case_ids[1:5], case_ids[-1]]:
        image = Image.new("RGB", (720, 240))
        for plane in range(3):
            noise = random.normal(0, 1, (20, 20))
            grey = np.kron(noise, np.ones((12, 12))) * 14 + 90
            image.paste(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB"), (plane * 240, 0))
            draw = ImageDraw.Draw(image, "RGBA")
            x, y = plane * 240 + 60 + int(random.integers(0, 30)), 80
            draw.ellipse([x, y, x + 120, y + 74], fill=(60, 170, 200, 110))
            draw.ellipse([x + 6, y + 4, x + 128, y + 80], outline=(255, 200, 60, 255), width=2)
        name = f"{case_id}_planes"
        image.save(run.figures / f"{name}.png")
        caption = (
            "Axial, coronal and sagittal plane through the largest section; filled: prediction, outlined: reference."
        )
        entries.append({"name": name, "caption": caption, "case_id": case_id})
    (run.figures / "index.json").write_text(json.dumps(entries))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., RunFolder]:
    """Makes run folders in the test's own folder."""

    def build(name: str = "001", **arguments: int | bool) -> RunFolder:
        return make_run(tmp_path / "hippocampus" / name, **arguments)  # type: ignore[arg-type]

    return build
