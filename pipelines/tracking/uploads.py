"""Files, tables, data sets and models of one run, sent to MLflow. Text is freed of folders on its way."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.modelfolder import read_model_record
from pipelines.runs import RunFolder
from pipelines.tracking.privacy import Scrubber, pseudonyms

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Uploads"]

_TEXT = {".yaml", ".yml", ".json", ".csv", ".tsv", ".txt", ".md", ".log"}
_LARGEST_TEXT = 64 * 1024 * 1024
_MODEL_NAME = "model"


class Uploads:
    """Sends what is more than a number or a word. Each upload may be repeated without harm."""

    def __init__(
        self, client: MlflowClient, run_id: str, experiment_id: str, run: RunFolder, scrubber: Scrubber
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._experiment_id = experiment_id
        self._run = run
        self._scrubber = scrubber

    def send(self, event: dict[str, Any]) -> None:
        """Sends one event of the journal; a kind that this version does not know is passed over."""
        senders: dict[str, Callable[[dict[str, Any]], None]] = {
            "files": self._send_files,
            "table": self._send_table,
            "dataset": self._send_dataset,
            "model": self._send_model,
        }
        if (sender := senders.get(event["event"])) is not None:
            sender(event)

    def _send_files(self, event: dict[str, Any]) -> None:
        source, to = self._run.root / event["path"], event["to"]
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        base = source if source.is_dir() else source.parent
        with _staging(self._run) as staging:
            for file in files:
                if any(part.startswith(".") for part in file.relative_to(base).parts):
                    continue
                staged = staging / file.relative_to(base)
                staged.parent.mkdir(parents=True, exist_ok=True)
                self._stage(file, staged)
            self._client.log_artifacts(self._run_id, str(staging), to or None)

    def _stage(self, file: Path, staged: Path) -> None:
        if file.suffix.lower() in _TEXT and file.stat().st_size <= _LARGEST_TEXT:
            staged.write_text(self._scrubber.text(file.read_text(encoding="utf-8", errors="replace")), encoding="utf-8")
        else:
            _link_or_copy(file, staged)

    def _send_table(self, event: dict[str, Any]) -> None:
        """A CSV as a file and as a table that MLflow's page shows; groups become pseudonyms."""
        source: Path = self._run.root / event["path"]
        with source.open(newline="", encoding="utf-8") as file:
            header, *rows = [list(map(self._scrubber.text, row)) for row in csv.reader(file)] or [[]]
        if "group" in header:
            column = header.index("group")
            names = pseudonyms([row[column] for row in rows])
            for row in rows:
                row[column] = names[row[column]]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        table = {"columns": header, "data": [[_number(cell) for cell in row] for row in rows]}
        to, name = event["to"], source.name.removesuffix(".csv")
        with _staging(self._run) as staging:
            (staging / source.name).write_text(text.getvalue(), encoding="utf-8")
            (staging / f"{name}.json").write_text(json.dumps(table), encoding="utf-8")
            self._client.log_artifacts(self._run_id, str(staging), to or None)
        self._announce_table(f"{to}/{name}.json" if to else f"{name}.json")

    def _announce_table(self, path: str) -> None:
        tag = "mlflow.loggedArtifacts"
        known = json.loads(self._client.get_run(self._run_id).data.tags.get(tag, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in known:
            self._client.set_tag(self._run_id, tag, json.dumps([*known, entry]))

    def _send_dataset(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=f"{event['name']}:{part}"[:500],
                    digest=event["digest"][:36],
                    source_type="local",
                    source=json.dumps({"name": event["name"]}),
                    profile=json.dumps({"part": part, "cases": count}),
                ),
                tags=[InputTag("mlflow.data.context", part)],
            )
            for part, count in event["parts"].items()
        ]
        self._client.log_inputs(self._run_id, datasets=inputs)

    def _send_model(self, event: dict[str, Any]) -> None:
        """The model folder as a pyfunc model; the same weights are sent once."""
        from mlflow.entities import LoggedModelOutput

        from pipelines.tracking.model_package import package_model

        folder: Path = self._run.root / event["path"]
        digest = read_model_record(folder).digest
        found = self._client.search_logged_models([self._experiment_id], filter_string=f"name = '{_MODEL_NAME}'")
        own = [
            model
            for model in found
            if model.source_run_id == self._run_id and model.tags.get("pulvinar.digest") == digest
        ]
        if any(str(model.status.value) == "READY" for model in own):
            return
        model = (
            own[0]
            if own
            else self._client.create_logged_model(
                self._experiment_id,
                name=_MODEL_NAME,
                source_run_id=self._run_id,
                tags={"pulvinar.digest": digest},
                model_type="pulvinar",
            )
        )
        with _staging(self._run) as staging:
            package_model(
                folder, staging / "model", target=event["target"], model_id=model.model_id, run_id=self._run_id
            )
            self._client.log_model_artifacts(model.model_id, str(staging / "model"))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, step=0)])


@contextmanager
def _staging(run: RunFolder) -> Iterator[Path]:
    """A folder beside the journal in which files are made ready; gone afterwards."""
    with tempfile.TemporaryDirectory(dir=run.tracking, prefix=".staging-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _link_or_copy(file: Path, staged: Path) -> None:
    try:
        staged.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, staged)


def _number(cell: str) -> float | str | None:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return value if value == value and abs(value) != float("inf") else (None if cell.lower() == "nan" else cell)
