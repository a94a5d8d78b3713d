"""A model folder as an MLflow model: code from a file, weights as safetensors, nothing pickled."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import yaml

from pipelines.experiment.environment import pulvinar_version
from pipelines.modelfolder import read_model_record
from pipelines.runs import write_atomically

__all__ = ["package_model"]


def package_model(folder: Path, package: Path, *, target: str, model_id: str, run_id: str) -> None:
    """Writes the MLflow model of a model folder to the folder `package`; `target` is where the code of its task lives.

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
            path=str(package),
            python_model=str(code),
            model_config={"task": read_model_record(folder).task, "target": target},
            artifacts={"model_folder": str(folder)},
            signature=signature,
            input_example=_example(),
            pip_requirements=[f"pulvinar=={pulvinar_version()}"],
        )
    _without_folders(package, model_id=model_id, run_id=run_id)
    for cache in package.rglob("__pycache__"):
        shutil.rmtree(cache)


def _example() -> Any:
    import pandas as pd

    return pd.DataFrame({"path": ["scan.nii.gz"]})


def _without_folders(package: Path, *, model_id: str, run_id: str) -> None:
    """MLflow writes the folders of this machine into `MLmodel`; it reads the file just as well without them."""
    file = package / "MLmodel"
    description = yaml.safe_load(file.read_text())
    description.pop("artifact_path", None)
    description["model_id"], description["run_id"] = model_id, run_id
    for artifact in description["flavors"]["python_function"].get("artifacts", {}).values():
        artifact["uri"] = artifact["path"]
    write_atomically(file, yaml.safe_dump(description, sort_keys=False))
