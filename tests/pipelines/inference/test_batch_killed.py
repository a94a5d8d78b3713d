"""Whatever ends a call, and whenever: only whole results stand there, and the next call finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys
from pathlib import Path
from stand_in_predictor import StandInSource
from pipelines.errors import PulvinarError
from pipelines.inference.batch import run_batch
from pipelines.inference.settings import BatchSettings

def main():
    source = StandInSource(model_digest=sys.argv[3])
    try:
        summary = run_batch(source, [Path(sys.argv[1])], Path(sys.argv[2]), BatchSettings(workers=2),
                            report=lambda event: print(event.line(), flush=True))
    except PulvinarError as error:
        print(error)
        sys.exit(error.exit_code)
    sys.exit(summary.exit_code)

if __name__ == "__main__":
    main()
"""


def _start(bench: Any, *, model: str = "model-1") -> subprocess.Popen[str]:
    script = bench.root / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[2])])}
    return subprocess.Popen(
        [sys.executable, str(script), str(bench.inputs), str(bench.out), model],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the call ended before it said {text!r}")


def _processes_of(bench: Any) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            except (OSError, ValueError):
                continue
            if session == bench and command:
                found.append(int(entry.name))
    return found


def _assert_whole(bench: Any, texts: dict[str, str]) -> None:
    for path in bench.out.glob("[!.]*/*.upper"):
        assert path.read_text() == texts[path.parent.name].upper()
        assert (path.parent / "provenance.json").is_file()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.17, 0.29])
def test_kill_9_leaves_only_whole_results_and_the_next_call_finishes(bench: Any, delay: float) -> None:
    texts = {f"item{number:02}": f"compute:sleep 0.02\nwrite:sleep 0.03\nnumber {number}" for number in range(14)}
    bench.put(**texts)
    process = _start(bench)
    _wait_for(process, "item01: started")
    time.sleep(delay)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    _assert_whole(bench, texts)
    done = {path.parent.name for path in bench.out.glob("[!.]*/provenance.json")}
    summary = bench.run()
    assert summary.counts["skipped"] == len(done)
    assert summary.counts["ok"] == len(texts) - len(done)
    assert bench.results() == {name: text.upper() for name, text in texts.items()}
    assert not (bench.out / ".pulvinar" / "staging").exists()
    assert bench.run().counts["skipped"] == len(texts)


def test_workers_end_when_the_call_is_killed(bench: Any) -> None:
    bench.put(a="compute:sleep 60", b="compute:sleep 60")
    process = _start(bench)
    _wait_for(process, "b: started")
    time.sleep(0.3)
    assert len(_processes_of(process.pid)) >= 2
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    deadline = time.monotonic() + 10
    while _processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _processes_of(process.pid) == []


def test_kill_9_while_results_are_replaced_leaves_the_old_or_the_new_one(bench: Any) -> None:
    texts = {f"item{number:02}": f"write:sleep 0.02\nnumber {number}" for number in range(8)}
    bench.put(**texts)
    bench.run()
    process = _start(bench, model="model-2")
    _wait_for(process, "item03: ok")
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    _assert_whole(bench, texts)
    assert bench.results().keys() == texts.keys()


@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGTERM, False, id="SIGTERM"),
        pytest.param(signal.SIGINT, True, id="Ctrl-C, which reaches the workers too"),
        pytest.param(signal.SIGTERM, True, id="SIGTERM to the whole group"),
    ],
)
def test_a_signal_ends_the_call_with_75_and_the_next_call_finishes(bench: Any, number: int, group: bool) -> None:
    texts = {f"item{index}": "compute:sleep 0.25" for index in range(7)}
    bench.put(**texts)
    process = _start(bench)
    _wait_for(process, "ok")
    (os.killpg if group else os.kill)(process.pid, number)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 75, said
    assert "Start the same command again" in said
    outcomes = bench.outcomes()
    assert set(outcomes.values()) == {"ok", "pending"}
    assert (bench.out / "ledger.csv").is_file()
    summary = bench.run(workers=2)
    assert summary.counts["skipped"] == list(outcomes.values()).count("ok")
    assert bench.results().keys() == texts.keys()


def test_a_killed_worker_takes_down_its_item_at_most(bench: Any) -> None:
    texts = {f"item{index}": "compute:sleep 0.2" for index in range(6)}
    bench.put(**texts)
    process = _start(bench)
    _wait_for(process, "ok")
    workers = [one for one in _processes_of(process.pid) if one != process.pid and b"spawn_main" in _command(one)]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert bench.results().keys() == texts.keys()


def _command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
