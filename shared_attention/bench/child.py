"""One measurement, in the process that this is called in: a fresh one, or its peak of memory is that of others too.

On a CPU the peak is the high-water mark of resident memory above what was resident before the tokens were made. On a
GPU it is the peak of PyTorch's allocator. The passes whose peak is taken come first; they warm up for those that are
timed, which keep freed memory, as the workers of a training do.

With one thread on a CPU, times are processor time: the same as elapsed time on an idle machine, and hardly disturbed on
a busy one. Otherwise they are elapsed time.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from shared_attention.bench.passes import Passes
from shared_attention.bench.plan import Measurement, Request

__all__ = ["measure", "serve"]

_FEWEST, _MOST = 3, 100
"""Passes that a time is the median of."""
_LONG = 20.0
"""Seconds of passes after which fewer than that are enough."""
_WARM_SIDE = {1: 196, 2: 14, 3: 8}
"""Tokens along an axis of the first passes, which make torch load and set up what is not the mechanism's."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_STATUS = Path("/proc/self/status")


def serve(request: Request, memory: float | None, answer: Connection) -> None:
    """Measure and send the result; what goes wrong is sent as one too.

    Args:
        request: What to measure.
        memory: Bytes that a CPU measurement may take; None for no limit.
        answer: Where the `Measurement` goes.
    """
    try:
        torch.set_num_threads(request.threads)
        if memory is not None and request.device == "cpu":
            _limit(memory)
        result = measure(request)
    except Exception as error:  # noqa: BLE001 - one measurement ends here, the others go on
        lacking = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        first = str(error).partition("\n")[0]
        result = Measurement(
            request, "out_of_memory" if lacking else "failed", message=f"{type(error).__name__}: {first}"
        )
    answer.send(result)
    answer.close()


def measure(request: Request) -> Measurement:
    """Peak of memory and median time of a forward pass, and of a forward and backward pass."""
    warm = Passes(replace(request, grid=(_WARM_SIDE[len(request.grid)],) * len(request.grid)))
    warm.forward()
    warm.training()
    del warm
    gc.collect()
    if request.device == "cpu":
        _tune(2**16, 0)  # what is freed leaves the process, so that its peak is that of what is held
    start = _start_peak(request.device)
    passes, clock = Passes(request), _clock(request)
    forward = [_time(passes.forward, clock)]
    forward_bytes = _peak(request.device) - start
    training = [_time(passes.training, clock)]
    training_bytes = _peak(request.device) - start
    if request.seconds:
        if request.device == "cpu":
            _tune(2**30, 2**31 - 1)  # giving large tensors back and taking them again costs more than filling them
        forward, training = (_times(one, clock, request.seconds) for one in (passes.forward, passes.training))
    return Measurement(
        request,
        "ok",
        forward_seconds=statistics.median(forward),
        training_seconds=statistics.median(training),
        forward_bytes=forward_bytes,
        training_bytes=training_bytes,
        repeats=len(training),
    )


def _time(run: Callable[[], None], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began


def _times(run: Callable[[], None], clock: Callable[[], float], seconds: float) -> list[float]:
    found: list[float] = []
    while (len(found) < _FEWEST and sum(found) < _LONG) or (sum(found) < seconds and len(found) < _MOST):
        found.append(_time(run, clock))
    return found


def _clock(request: Request) -> Callable[[], float]:
    if request.device == "cuda":

        def synchronised() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return synchronised
    return time.process_time if request.threads == 1 else time.perf_counter


def _start_peak(device: str) -> int:
    """Bytes that are held now, from which a peak is counted."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # now the mark is what is held
        return _status("VmRSS")
    return _peak(device)


def _peak(device: str) -> int:
    """Most bytes that were held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if _STATUS.exists():
        return _status("VmHWM")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def _status(entry: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def _limit(memory: float) -> None:
    """Let an allocation fail rather than the machine run out."""
    if _STATUS.exists():
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + int(memory), most))


def _tune(mmap_threshold: int, trim_threshold: int) -> None:
    """Tell glibc from how many bytes on a block is given back to the system when it is freed, and how many freed bytes
    below that it keeps.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
        libc.malloc_trim(0)
