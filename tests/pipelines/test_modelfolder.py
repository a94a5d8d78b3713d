"""The model folder: what is saved is what is loaded, and everything else is refused with a reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from pipelines import task as tasks
from pipelines.errors import ConfigurationError, ModelFolderError
from pipelines.modelfolder import find_model, load_model, read_model_record, save_model
from pipelines.task import TaskEntry, register_task

sys.path.insert(0, str(Path(__file__).parent / "inference"))
from stand_in_task import ScalingTask


@pytest.fixture(autouse=True)
def scaling_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    register_task(TaskEntry("test/scaling", "stand_in_task:ScalingTask", "for tests"))


def _weights(factor: float = 3.0, width: int = 1) -> dict[str, Tensor]:
    return {"weight": torch.full((width, 1), factor)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", ScalingTask(), _weights(), metrics={"dice": 0.9}, data_digest="abc")
    return tmp_path / "model"


def test_what_is_saved_is_what_is_loaded(model: Path) -> None:
    loaded = load_model(model, device="cpu")
    task, network, record = loaded
    assert isinstance(task, ScalingTask)
    assert not network.training
    assert torch.equal(network.state_dict()["weight"], _weights()["weight"])
    assert (record.parameters, record.metrics, record.data_digest) == (1, {"dice": 0.9}, "abc")
    assert loaded.description == {"network": {"width": 1}, "infer": {"offset": 0.0}}
    assert record.made_with.keys() == {"pulvinar", "torch", "commit"}
    assert sorted(path.name for path in model.iterdir()) == ["model.safetensors", "model.yaml"]
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_run_folder_stands_for_its_model(model: Path) -> None:
    assert find_model(model.parent) == find_model(model) == find_model(model / "model.yaml") == model


def test_the_files_can_be_read_by_others(model: Path) -> None:
    assert {path.stat().st_mode & 0o444 for path in model.iterdir()} == {0o444}


def test_tied_weights_and_odd_layouts_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    network = nn.ParameterDict({"first": shared, "second": shared, "turned": shared.t(), "narrow": shared.bfloat16()})
    monkeypatch.setattr(
        ScalingTask,
        "build_network",
        lambda self: nn.ParameterDict(
            {
                "first": torch.zeros(2, 3),
                "second": torch.zeros(2, 3),
                "turned": torch.zeros(3, 2),
                "narrow": torch.zeros(2, 3, dtype=torch.bfloat16),
            }
        ),
    )
    save_model(tmp_path / "model", ScalingTask(), network.state_dict())
    loaded = load_model(tmp_path / "model").network.state_dict()
    assert loaded.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded[name], tensor)


def test_a_model_is_replaced_as_a_whole(model: Path) -> None:
    before = read_model_record(model).digest
    save_model(model, ScalingTask(), _weights(4.0))
    assert read_model_record(model).digest != before
    assert load_model(model).network.state_dict()["weight"].item() == 4.0
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.folders.sync_folder", full)
    with pytest.raises(OSError, match="No space"):
        save_model(model, ScalingTask(), _weights(4.0))
    assert load_model(model).network.state_dict()["weight"].item() == 3.0
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_folder_of_other_things_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelFolderError, match="is no model folder"):
        save_model(tmp_path, ScalingTask(), _weights())
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            {"root": str(Path(__file__))}, "description.extra.root holds an absolute path", id="absolute path"
        ),
        pytest.param(
            [Path("x")], r"description.extra\[0\] is .*PosixPath; model.yaml holds plain values", id="an object"
        ),
    ],
)
def test_a_description_that_names_this_machine_or_is_not_plain_is_refused(
    tmp_path: Path, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "model", ScalingTask(extra=value), _weights())
    assert list(tmp_path.iterdir()) == []


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        content = yaml.safe_load((model / "model.yaml").read_text())
        change(content)
        (model / "model.yaml").write_text(yaml.safe_dump(content))

    return apply


def _text(text: str) -> Callable[[Path], None]:
    return lambda model: (model / "model.yaml").write_text(text) and None


def _flip(model: Path) -> None:
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nformat: 1\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda model: (model / "model.safetensors").unlink(), "has no model.safetensors", id="no weights"),
        pytest.param(lambda model: (model / "model.yaml").unlink(), "there is no model.yaml", id="no record"),
        pytest.param(_flip, "sha256", id="one bit of the weights"),
        pytest.param(
            _edit(lambda content: content.update(format=2)), "format 2; this version reads format 1", id="format"
        ),
        pytest.param(_edit(lambda content: content.update(task="test/other")), "unknown task", id="unknown task"),
        pytest.param(_edit(lambda content: content.pop("description")), "description is None", id="no description"),
        pytest.param(_edit(lambda content: content["weights"].pop("sha256")), "sha256 is None", id="no digest"),
        pytest.param(_edit(lambda content: content.update(description={})), "cannot build the network", id="empty"),
        pytest.param(
            _edit(lambda content: content["description"]["network"].update(width=2)),
            r"other shapes: weight \(1, 1\), expected \(2, 1\)",
            id="another width",
        ),
        pytest.param(_text("!!python/object/apply:os.system ['true']"), "cannot be read", id="a tag that runs code"),
        pytest.param(_text("_target_: os.system\nformat: 1\n"), "task is None", id="a target is only a word"),
        pytest.param(_text(LAUGHS), "aliases", id="a billion laughs"),
        pytest.param(_text("[" * 20_000), "cannot be read", id="endless depth"),
        pytest.param(_text("- 1\n"), "holds no mapping", id="a list"),
        pytest.param(_text("x" * (5 * 2**20)), "larger than", id="huge"),
        pytest.param(
            lambda model: (model / "model.yaml").write_bytes(b"\xff\xfe\x00"), "cannot be read", id="not text"
        ),
    ],
)
def test_a_damaged_or_hostile_folder_is_refused_with_a_reason(
    model: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(model)
    with pytest.raises(ModelFolderError, match=message):
        load_model(model)


def test_weights_of_another_network_name_what_is_missing_and_what_is_too_much(tmp_path: Path) -> None:
    save_model(tmp_path / "model", ScalingTask(), {"weights": torch.zeros(1, 1)})
    with pytest.raises(ModelFolderError, match="missing: weight; unexpected: weights"):
        load_model(tmp_path / "model")


def test_settings_of_a_model_can_be_changed_by_name_only(model: Path) -> None:
    task = load_model(model, changes={"infer.offset": 2.5}).task
    assert isinstance(task, ScalingTask)
    assert task.offset == 2.5
    with pytest.raises(ConfigurationError, match=r"no setting 'infer\.width'"):
        load_model(model, changes={"infer.width": 1})
    with pytest.raises(ConfigurationError, match=r"no setting 'nothing\.at\.all'"):
        load_model(model, changes={"nothing.at.all": 1})


def test_readers_see_one_model_or_the_other_while_it_is_replaced(model: Path) -> None:
    import threading

    stop = threading.Event()
    seen: list[float] = []
    errors: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                _, network, record = load_model(model)
                assert network.state_dict()["weight"].item() == record.metrics["dice"]
                seen.append(record.metrics["dice"])
            except (AssertionError, OSError, ModelFolderError) as error:
                errors.append(error)
                return

    save_model(model, ScalingTask(), _weights(0.0), metrics={"dice": 0.0})
    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 15):
        save_model(model, ScalingTask(), _weights(float(number)), metrics={"dice": float(number)})
    stop.set()
    thread.join()
    assert errors == []
    assert len(set(seen)) > 1
