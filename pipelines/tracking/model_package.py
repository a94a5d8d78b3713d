"""A model folder as an MLflow model: code from a file, weights as safetensors, nothing pickled."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import yaml

from pipelines.runs import write_atomically

__all__ = ["package_model"]


def package_model(folder: Path, target: Path, *, model_id: str, run_id: str) -> None:
    """Writes the MLflow model of a model folder to `target`.

    The model takes a table with a column `path` (files or folders to predict) and the parameter `out` (where results
    go), and answers with one row for each item: `item_id, outcome, reason, files, summary`.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    text = DataType.string
    signature = ModelSignature(
        inputs=Schema([ColSpec(text, "path")]),
        outputs=Schema([ColSpec(text, name) for name in ("item_id", "outcome", "reason", "files", "summary")]),
        params=ParamSchema([ParamSpec("out", text, "predictions"), ParamSpec("device", text, "auto")]),
    )
    code = Path(__file__).with_name("served_model.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(code),
            artifacts={"model_folder": str(folder)},
            signature=signature,
            input_example=_example(),
            pip_requirements=[f"pulvinar=={_version()}"],
        )
    _without_folders(target, model_id=model_id, run_id=run_id)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)


def _example() -> Any:
    import pandas as pd

    return pd.DataFrame({"path": ["scan.nii.gz"]})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pulvinar")
    except PackageNotFoundError:
        return "0"


def _without_folders(target: Path, *, model_id: str, run_id: str) -> None:
    """MLflow writes the folders of this machine into `MLmodel`; it reads the file just as well without them."""
    file = target / "MLmodel"
    description = yaml.safe_load(file.read_text())
    description.pop("artifact_path", None)
    description["model_id"], description["run_id"] = model_id, run_id
    for artifact in description["flavors"]["python_function"].get("artifacts", {}).values():
        artifact["uri"] = artifact["path"]
    write_atomically(file, yaml.safe_dump(description, sort_keys=False))
