"""What a run was made with: versions, device, commit. Names no machine, user or folder."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["describe_environment", "git_commit", "pulvinar_version"]

PACKAGES = ("torch", "monai", "accelerate", "nibabel", "pydicom", "SimpleITK", "albumentations", "numpy", "mlflow")


def pulvinar_version() -> str:
    """The installed version, or `unknown` outside an installation."""
    return _version("pulvinar")


def git_commit(folder: Path) -> str:
    """The commit of the checkout that `folder` lies in, with `-dirty` where files differ; empty outside one."""
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def describe_environment(*, seed: int, device: str) -> dict[str, Any]:
    """Plain values for `environment.json` and for tracking tags."""
    import torch

    return {
        "pulvinar": pulvinar_version(),
        "commit": git_commit(Path(__file__).parent),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "seed": seed,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device}: {torch.cuda.get_device_name(torch.device(device))}"
    return device


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
