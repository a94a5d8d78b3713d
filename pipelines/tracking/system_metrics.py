"""Processor, memory, disk and GPU use, sampled in a thread, named as MLflow's system metrics page expects."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["SystemSampler", "sample_system"]

_MEGABYTE = 1e6


class SystemSampler:
    """Calls `log(values, step)` every `interval` seconds until stopped."""

    def __init__(self, log: Callable[[Mapping[str, float], int], None], *, folder: Path, interval: float) -> None:
        self._log = log
        self._folder = folder
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops sampling."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        step = 0
        while not self._stopped.wait(self._interval):
            try:
                values = sample_system(self._folder)
            except Exception:  # noqa: BLE001 - a machine that hides its figures is no reason to disturb a training
                return
            self._log(values, step)
            step += 1


def sample_system(folder: Path) -> dict[str, float]:
    """One sample: percentages since the sample before, megabytes now."""
    import psutil

    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(folder))
    values = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": psutil.Process().memory_info().rss / _MEGABYTE,
        "system/disk_usage_percentage": disk.percent,
        "system/disk_available_megabytes": disk.free / _MEGABYTE,
    }
    return values | _sample_gpus()


def _sample_gpus() -> dict[str, float]:
    """Figures of the GPUs this process uses; torch is asked only when the process has brought CUDA up itself."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    values: dict[str, float] = {}
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        values[f"system/gpu_{index}_memory_usage_megabytes"] = (total - free) / _MEGABYTE
        values[f"system/gpu_{index}_memory_usage_percentage"] = 100 * (total - free) / total
        try:
            values[f"system/gpu_{index}_utilization_percentage"] = float(torch.cuda.utilization(index))
        except (ImportError, RuntimeError):  # needs NVIDIA's management library
            continue
    return values
