"""What a worker process does before it loads a network: its share of the cores, and its device."""

from __future__ import annotations

import os

from pipelines.allocation import keep_freed_memory
from pipelines.errors import EnvironmentProblem

__all__ = ["prepare_worker"]


def prepare_worker(wanted: str, *, index: int, workers: int) -> tuple[str, int]:
    """Sets threads and memory of this process, and chooses its device. To be called before torch is imported.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `cuda:N`.
        index: Which worker this is; it chooses among several GPUs.
        workers: How many there are; the CPU's cores are divided among them.

    Returns:
        The device, and how many devices of that kind there are.

    Raises:
        EnvironmentProblem: The device is not there.
    """
    threads = _threads(workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "GOMP_SPINCOUNT" not in os.environ:
        # Threads that spin while they wait for one another keep the reader, the writer and other programs off the
        # cores that those threads wait for: on two busy cores a forward pass took three times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    return _choose_device(wanted, index)


def _threads(workers: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // workers)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else share


def _choose_device(wanted: str, index: int) -> tuple[str, int]:
    import torch

    found = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not found):
        return "cpu", 1
    if not found:
        raise EnvironmentProblem(f"device {wanted!r} was asked for, but torch sees no GPU", hint="Use --device cpu.")
    if wanted in ("auto", "cuda"):
        return f"cuda:{index % found}", found
    if int(wanted.partition(":")[2]) >= found:
        raise EnvironmentProblem(f"there is no {wanted}; this machine has {found} GPU(s), counted from cuda:0")
    return wanted, 1
