"""A server that dies or hangs costs a run nothing; what it missed is delivered later. And the page of a store."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from pipelines.errors import ConfigurationError, EnvironmentProblem
from pipelines.runs import RunFolder
from pipelines.tracking import TrackingSettings, open_tracker, sync
from pipelines.tracking.dashboard import serve
from pipelines.tracking.delivery import read_state
from pipelines.tracking.stores import open_client

pytestmark = pytest.mark.slow

WAIT_SECONDS = 120


class Proxy:
    """Stands before a server and passes everything on, or hangs, or is gone."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.mode: Literal["up", "hang", "down"] = "up"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def change(self, mode: Literal["up", "hang", "down"]) -> None:
        """Changes for new connections, and cuts those that are open."""
        self.mode = mode
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.change("down")
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                if self.mode == "down":
                    connection.close()
                elif self.mode == "up":
                    upstream = socket.create_connection(("127.0.0.1", self._target))
                    self._open.append(upstream)
                    for source, sink in ((connection, upstream), (upstream, connection)):
                        threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


SERVE = """
import sys
from pathlib import Path
from pipelines.tracking.dashboard import serve
serve(output=Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page of a store of its own, with the process that serves it: a real MLflow server too."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tracking").mkdir()
    shutil.copy(empty_store, folder / "tracking" / "mlflow.db")
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline().startswith("store")
        yield process.stdout.readline().split()[1].partition("/#")[0], process
        process.send_signal(signal.SIGINT)


@pytest.fixture
def server(page: tuple[str, subprocess.Popen[str]]) -> str:
    return page[0]


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy = Proxy(int(server.rpartition(":")[2]))
    yield proxy
    proxy.close()


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # connections that MLflow's client leaves open when they are cut
def test_a_run_goes_on_while_its_server_hangs_and_dies(proxy: Proxy, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run-1")
    run.root.mkdir()
    settings = TrackingSettings(uri=f"http://127.0.0.1:{proxy.port}", system_metrics=False)
    tracker = open_tracker(settings, run, name="away", output=tmp_path)
    tracker.log_metrics({"loss": 1.0}, 0)
    wait_until(lambda: read_state(run).get("offset", 0) > 0, "the first delivery")
    first = tracker.run_id

    proxy.change("hang")
    slowest = 0.0
    for step in range(1, 1001):
        before = time.thread_time()
        tracker.log_metrics({"loss": 1 / (step + 1)}, step)
        slowest = max(slowest, time.thread_time() - before)
    assert slowest < 0.05
    wait_until(lambda: "not delivered" in (run.tracking / "sender.log").read_text(), "the first failure")
    proxy.change("down")
    run.config.write_text("a: 1\n")
    tracker.log_files(run.config)
    assert tracker.finish("finished") is False
    assert run.read_status()["tracking"]["waiting"] > 1000
    assert not sync(run).complete

    proxy.change("up")
    report = sync(run)
    assert report.complete, report
    assert report.run_id == first
    client = open_client(settings.uri or "")
    assert [(metric.step, metric.value) for metric in client.get_metric_history(report.run_id, "loss")] == [
        (step, 1 / (step + 1)) for step in range(1001)
    ]
    assert [file.path for file in client.list_artifacts(report.run_id)] == ["config.yaml"]
    assert client.get_run(report.run_id).info.status == "FINISHED"


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from pipelines.runs import RunFolder
from pipelines.tracking import TrackingSettings, open_tracker
run = RunFolder(Path(sys.argv[1]))
run.root.mkdir(parents=True)
tracker = open_tracker(TrackingSettings(), run, name="killed", output=run.root.parent)
for step in range(100):
    tracker.log_metrics({"loss": step / 100}, step)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
assert tracker.finish("finished"), (run.tracking / "sender.log").read_text()
"""


def test_a_run_killed_outright_is_delivered_and_marked(output: Path) -> None:
    run = RunFolder(output / "run-1")
    ended = subprocess.run([sys.executable, "-c", SCRIPT, str(run.root), "die"], check=False)
    assert ended.returncode == -signal.SIGKILL
    client = open_client(f"sqlite:///{output / 'tracking' / 'mlflow.db'}")
    wait_until(lambda: read_state(run).get("run_id"), "the delivery")
    run_id = read_state(run)["run_id"]
    wait_until(lambda: client.get_run(run_id).info.status == "KILLED", "the mark")
    assert len(client.get_metric_history(run_id, "loss")) == 100


def test_runs_that_start_together_make_one_store(tmp_path: Path) -> None:
    runs = [tmp_path / "runs" / name for name in ("a", "b")]
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(run), "end"]) for run in runs]
    assert [process.wait(WAIT_SECONDS) for process in processes] == [0, 0]
    client = open_client(f"sqlite:///{tmp_path / 'runs' / 'tracking' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "killed"]
    assert {run.info.run_name for run in client.search_runs([experiment.experiment_id])} == {"a", "b"}


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no tracking store"):
        serve(output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_store_to_serve() -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///mlruns"):
        serve("mlruns")


def test_a_server_only_needs_to_be_named() -> None:
    lines: list[str] = []
    assert serve("https://mlflow.lab.example", say=lines.append) == 0
    assert lines == ["this store is a server; its page is at https://mlflow.lab.example"]


def test_the_page_is_there_and_stops_with_its_command(page: tuple[str, subprocess.Popen[str]]) -> None:
    address, process = page
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert b"<title>MLflow" in answer.read()
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.read().splitlines()[-1] == "stopped"
    assert process.wait(30) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)
