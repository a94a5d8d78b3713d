"""A tracked model is loaded from the store by MLflow itself and predicts files, without a pickle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.modelfolder import save_model
from pipelines.runs import RunFolder
from pipelines.task import TaskEntry, find_task, register_task
from pipelines.tracking import Tracker, sync
from pipelines.tracking.stores import open_client
from pipelines.tracking.target import Target

TASK = '''
from pathlib import Path

import torch

from pipelines.errors import CaseError
from pipelines.task import Item, Predictor, Task, Written


class Doubling(Predictor):
    """Doubles the number in a text file."""

    def __init__(self, network):
        self.network = network

    def discover(self, inputs):
        return [Item(path.stem, (path,)) for path in inputs]

    def read(self, item):
        try:
            return float(item.paths[0].read_text())
        except ValueError:
            raise CaseError(item.item_id, "not a number") from None

    def infer(self, loaded):
        return float(self.network(torch.tensor([[loaded]])))

    def write(self, item, result, folder):
        file = folder / f"{item.item_id}.result.txt"
        file.write_text(str(result))
        return Written((file,), {"value": result})


class DoublingTask(Task):
    name = "test/doubling"
    selection_metric = "error"

    def __init__(self, config=None):
        self.config = config

    def build_network(self):
        return torch.nn.Linear(1, 1, bias=False)

    def predictor(self, network, *, device):
        return Doubling(network)

    def describe(self):
        return {"times": 2}

    @classmethod
    def from_description(cls, description):
        return cls()

    read_cases = check_case = fit = training_data = loss_step = item = judge = draw = example_batch = None
    with_workflow = None
'''


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Writes a model folder of a task that doubles numbers."""
    (tmp_path / "doubling_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "doubling_task", raising=False)
    register_task(TaskEntry("test/doubling", "doubling_task:DoublingTask", "Doubles numbers."))

    def write(folder: Path) -> None:
        import torch

        task = find_task("test/doubling").load()(None)  # type: ignore[arg-type]
        save_model(folder, task, {"weight": torch.tensor([[2.0]])})

    return write


@pytest.mark.filterwarnings("ignore")  # loading is MLflow's doing
def test_a_tracked_model_predicts_files(
    start: Callable[..., tuple[RunFolder, Tracker]], model: Callable[[Path], None], tmp_path: Path, output: Path
) -> None:
    run, tracker = start()
    model(run.model)
    tracker.log_model(run.model)
    tracker.log_model(run.model)
    tracker.finish("finished")
    report = sync(run)
    assert report.complete
    assert report.refused == 0, (run.tracking / "refused.jsonl").read_text()
    uri = Target.read(run).store_uri(run)
    client = open_client(uri)
    found = client.search_logged_models([client.get_run(report.run_id).info.experiment_id])
    assert [(logged.name, logged.source_run_id) for logged in found] == [("model", report.run_id)]

    import mlflow

    mlflow.set_tracking_uri(uri)
    served = mlflow.pyfunc.load_model(f"runs:/{report.run_id}/model")
    (tmp_path / "three.txt").write_text("3")
    (tmp_path / "word.txt").write_text("three")
    paths = [str(tmp_path / "three.txt"), str(tmp_path / "word.txt"), str(tmp_path / "gone.txt")]
    out = tmp_path / "results"
    answer = served.predict({"path": paths}, params={"out": str(out), "device": "cpu"})
    assert list(answer["outcome"]) == ["ok", "failed", "failed"]
    assert list(answer["reason"]) == ["", "not a number", "no such file or folder"]
    assert json.loads(answer["summary"][0]) == {"value": 6.0}
    assert (out / json.loads(answer["files"][0])[0]).read_text() == "6.0"
    assert sorted(path.name for path in out.iterdir()) == ["three.result.txt"]
    example = served.input_example
    assert list(served.predict(example)["outcome"]) == ["failed"]

    files = [path for path in (output / "tracking" / "artifacts").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"MLmodel", "model.safetensors", "model.yaml", "served_model.py"}
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pth", ".pt"}]
    assert not [path for path in files if str(tmp_path).encode() in path.read_bytes()]
