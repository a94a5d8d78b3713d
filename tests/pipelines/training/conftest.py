"""The toy task, as a module (`toy`) and as a script (`toy_script`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).with_name("toy_task.py")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    if "training_toy_task" not in sys.modules:
        spec = importlib.util.spec_from_file_location("training_toy_task", _SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules["training_toy_task"]


@pytest.fixture(scope="session")
def toy_script() -> Path:
    return _SCRIPT
