"""The MLflow page of a tracking store, served on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import ConfigurationError, EnvironmentProblem
from pipelines.tracking.settings import TrackingSettings, mask_password
from pipelines.tracking.stores import ensure_store, mlflow_environment, sqlite_file, store_for

__all__ = ["serve", "served"]

HOST = "127.0.0.1"
FIRST_PORT = 5000
_PORTS_TRIED = 20
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0

Say = Callable[[str], None]


def serve(
    uri: str | None = None, *, output: Path = Path("runs"), port: int = FIRST_PORT, say: Say | None = None
) -> int:
    """Serves the page of a store until Ctrl-C or SIGTERM; for a server that runs already, says where its page is.

    Args:
        uri: The tracking store; None for the one in the folder of run folders.
        output: The folder of run folders.
        port: The port to use, or the next one that is free.
        say: Told the store and the address; prints them when None.

    Returns:
        0.

    Raises:
        ConfigurationError: `uri` is no tracking store.
        EnvironmentProblem: There is no such store, no port is free, or the page does not start.
    """
    say = say or _print
    uri = _store(uri, output)
    if uri.startswith(("http://", "https://")):
        say(f"this store is a server; its page is at {uri}")
        return 0
    # Both are set: a shell starts what runs in the background with SIGINT ignored.
    stops = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, signal.default_int_handler) for number in stops]
    try:
        with served(uri, port=port) as (address, process):
            say(f"store  {mask_password(uri)}")
            say(f"page   {address}/#/experiments?workflowType=machine_learning")
            say("It is served to this machine only. Ctrl-C stops it.")
            process.wait()
            raise EnvironmentProblem("the page has stopped by itself", hint="Type the command again.")
    except KeyboardInterrupt:
        say("stopped")
    finally:
        for number, handler in zip(stops, previous, strict=True):
            signal.signal(number, handler)
    return 0


@contextmanager
def served(uri: str, *, port: int = FIRST_PORT) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The page as `(address, process)`, ready to be opened, for as long as the context lasts."""
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise EnvironmentProblem(
            f"there is no tracking store at {file}", hint="`pulvinar run WORKFLOW` makes one with its first run."
        )
    chosen = _free_port(port)
    if file is not None:
        _bring_up_to_date(uri)
    folder = file.parent if file is not None else Path.cwd()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
                *("--host", HOST, "--port", str(chosen), "--workers", "1"),
                *("--artifacts-destination", (folder / "artifacts").as_uri()),
            ],
            env=os.environ | mlflow_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address = f"http://{HOST}:{chosen}"
            if not _healthy(address, process):
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()[-5:]
                raise EnvironmentProblem("the page did not start:\n  " + "\n  ".join(lines), hint="`pulvinar doctor`")
            yield address, process
        finally:
            _stop(process)


def _bring_up_to_date(uri: str) -> None:
    """Opens a SQLite store once, alone: one of an older MLflow gets its tables changed, or a clear error."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ensure_store(uri)
        except Exception as error:
            raise EnvironmentProblem(
                f"the store cannot be opened: {error}",
                hint="If another version of MLflow wrote it: `mlflow db upgrade URI`, after a copy.",
            ) from error


def _store(uri: str | None, output: Path) -> str:
    from pydantic import ValidationError

    try:
        return store_for(TrackingSettings(uri=uri), output).uri
    except ValidationError as error:
        raise ConfigurationError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what the command is for


def _free_port(port: int) -> int:
    for candidate in range(port, min(port + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    raise EnvironmentProblem(
        f"ports {port} to {port + _PORTS_TRIED - 1} are all taken", hint="Give another one with --port."
    )


def _healthy(address: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with direct.open(f"{address}/health", timeout=2) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
