"""The model that MLflow serves: this file is copied into the tracked model and run when the model is loaded."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipelines.task import TaskEntry, register_task, registered_tasks

__all__ = ["ServedModel"]


class ServedModel(PythonModel):
    """Predicts the files and folders that a table names. One bad item never stops the rest."""

    def load_context(self, context: PythonModelContext) -> None:
        """Remembers the model folder; weights are read with the first prediction, for the device it asks for."""
        self._folder = Path(context.artifacts["model_folder"])
        self._predictors: dict[str, Any] = {}
        home = context.model_config
        if home["task"] not in {entry.name for entry in registered_tasks()}:
            register_task(TaskEntry(home["task"], home["target"], ""))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predicts every item.

        Args:
            context: Given by MLflow.
            model_input: Table with a column `path`.
            params: `out`, the folder for results, and `device`.

        Returns:
            Table `item_id, outcome, reason, files, summary`; files are told relative to `out`.
        """
        given = params or {}
        out = Path(given.get("out", "predictions"))
        predictor = self._predictor(str(given.get("device", "auto")))
        rows = []
        for path in model_input["path"].explode().astype(str):
            if not Path(path).exists():
                rows.append((Path(path).name, "failed", "no such file or folder", "[]", "{}"))
                continue
            rows.extend(_predict_item(predictor, item, out) for item in predictor.discover([Path(path)]))
        return pd.DataFrame(rows, columns=["item_id", "outcome", "reason", "files", "summary"])

    def _predictor(self, device: str) -> Any:
        import torch

        from pipelines.modelfolder import load_model

        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if name not in self._predictors:
            model = load_model(self._folder, device=name)
            self._predictors[name] = model.task.predictor(model.network, device=torch.device(name))
        return self._predictors[name]


def _predict_item(predictor: Any, item: Any, out: Path) -> tuple[str, str, str, str, str]:
    if item.problem:
        return item.item_id, "failed", item.problem, "[]", "{}"
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".staging-") as staging:
            written = predictor.write(item, predictor.infer(predictor.read(item)), Path(staging))
            names = []
            for file in written.files:
                name = Path(file).resolve().relative_to(Path(staging).resolve())
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                Path(file).replace(out / name)
                names.append(name.as_posix())
    except Exception as error:  # noqa: BLE001 - one item ends here, with its reason
        return item.item_id, "failed", getattr(error, "reason", f"{type(error).__name__}: {error}"), "[]", "{}"
    return item.item_id, "ok", "", json.dumps(names), json.dumps(dict(written.summary), default=str)


mlflow.models.set_model(ServedModel())
