"""Checkpoints on disk: folders that are written whole or not at all.

    checkpoints/last/   weights.safetensors   what would be served now: the network, or its moving average
                        state.safetensors     tensors of the rest (optimizer; the network beside its average)
                        state.json            counters, history, settings, and where each tensor belongs
    checkpoints/best/   weights.safetensors, state.safetensors, state.json   epoch, score

A new folder is written beside the old one, synced, and renamed into place. The old one is kept as `.NAME.previous`
until then, and found there again should the process die between the two renames.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipelines.errors import DataError, EnvironmentProblem
from pipelines.training.statefiles import pack, unpack

__all__ = ["WEIGHTS", "Checkpoint", "disk_problems", "load_checkpoint", "remove_checkpoints", "save_checkpoint"]

WEIGHTS = "weights.safetensors"
_TENSORS = "state.safetensors"
_DOCUMENT = "state.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        weights: `state_dict` of the network to serve, on the CPU.
        state: Nested plain values and tensors.
    """

    weights: dict[str, Tensor]
    state: Any


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint in place of the one in `folder`.

    Raises:
        EnvironmentProblem: The disk is full or cannot be written to; the former checkpoint is untouched.
    """
    tensors, document = pack(checkpoint.state)
    weights = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in checkpoint.weights.items()}
    with disk_problems(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        try:
            temporary.chmod(0o755)
            _write(temporary / WEIGHTS, safetensors.torch.save(weights))
            _write(temporary / _TENSORS, safetensors.torch.save(tensors))
            _write(temporary / _DOCUMENT, json.dumps(document, allow_nan=False).encode())
            _sync_folder(temporary)
            _swap(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises:
        DataError: There is one, but it cannot be read.
    """
    _recover(folder)
    if not folder.is_dir():
        return None
    try:
        weights = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        tensors = safetensors.torch.load((folder / _TENSORS).read_bytes())
        state = unpack(tensors, json.loads((folder / _DOCUMENT).read_bytes()))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(
            f"the checkpoint {folder.name!r} cannot be read: {type(error).__name__}: {error}",
            hint="Start the run again without --resume.",
        ) from error
    return Checkpoint(weights, state)


def remove_checkpoints(parent: Path, names: tuple[str, ...]) -> None:
    """Removes checkpoints of a former training, and what it left half-written."""
    for name in names:
        _remove_leftovers(parent / name)
        shutil.rmtree(_previous(parent / name), ignore_errors=True)
        shutil.rmtree(parent / name, ignore_errors=True)


@contextmanager
def disk_problems(path: Path) -> Iterator[None]:
    """Turns a failed write into an `EnvironmentProblem` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EnvironmentProblem(
                f"the disk is full: {path.name} could not be written; the last whole checkpoint is untouched",
                hint="Free some space, then type the same command with --resume.",
            ) from error
        raise EnvironmentProblem(
            f"{path.name} could not be written: {error.strerror or error}; the last whole checkpoint is untouched",
            hint="Make the run folder writable, then type the same command with --resume.",
        ) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(temporary: Path, folder: Path) -> None:
    """At each moment in between, `folder` or its previous form is whole."""
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(folder, previous)
    os.replace(temporary, folder)
    _sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(folder: Path) -> None:
    if not folder.exists() and _previous(folder).is_dir():
        os.replace(_previous(folder), folder)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
