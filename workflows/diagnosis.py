"""`pulvinar doctor`: whether this machine has what Pulvinar needs."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

__all__ = ["Check", "diagnose"]

PACKAGES = {
    "torch": "torch",
    "monai": "monai",
    "accelerate": "accelerate",
    "nibabel": "nibabel",
    "pydicom": "pydicom",
    "highdicom": "highdicom",
    "SimpleITK": "SimpleITK",
    "albumentations": "albumentations",
    "scikit-learn": "sklearn",
    "mlflow": "mlflow",
}
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    state: Literal["ok", "note", "broken"]
    found: str
    hint: str = ""


def diagnose() -> list[Check]:
    """Every check, in the order they are shown."""
    checks: list[Callable[[], Check]] = [_python, *(_importer(*names) for names in PACKAGES.items())]
    checks += [_accelerator, _memory, _disk, _no_torchvision, _data]
    return [check() for check in checks]


def _python() -> Check:
    return Check("Python", "ok", ".".join(map(str, sys.version_info[:3])))


def _importer(distribution: str, module: str) -> Callable[[], Check]:
    def check() -> Check:
        try:
            importlib.import_module(module)
            return Check(distribution, "ok", version(distribution))
        except PackageNotFoundError:
            return Check(distribution, "broken", "not installed", "make install")
        except Exception as error:  # noqa: BLE001 - whatever an import raises is the finding
            return Check(distribution, "broken", f"{type(error).__name__}: {error}", "make install")

    return check


def _accelerator() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("device", "ok", torch.cuda.get_device_name(0))
    fast = "fast" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "slow"
    return Check(
        "device", "note", f"CPU, {torch.get_num_threads()} threads, bf16 {fast}", "A GPU makes training much faster."
    )


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available / _GIB
    low = free < 4
    return Check("memory", "note" if low else "ok", f"{free:.1f} GiB free", "Trainings want 4 GiB." if low else "")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    writable = os.access(Path.cwd(), os.W_OK)
    if not writable:
        return Check("disk", "broken", "this folder cannot be written", "Start from a folder of your own.")
    return Check("disk", "ok" if free > 2 else "note", f"{free:.1f} GiB free here", "" if free > 2 else "Make room.")


def _no_torchvision() -> Check:
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return Check("torchvision", "ok", "not installed, as it should be")
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001 - whatever an import raises is the finding
        return Check("torchvision", "broken", f"{found}: {error}", "pip uninstall torchvision")
    return Check("torchvision", "note", found, "Not needed.")


def _data() -> Check:
    from pipelines.fixtures import data_root

    root = data_root()
    if root is None:
        return Check("PULVINAR_DATA", "note", "not set", "Only the catalogue's own data sets need it.")
    return Check("PULVINAR_DATA", "ok", str(root))
