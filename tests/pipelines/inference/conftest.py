"""What the tests of batch inference share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Workers are spawned processes: they must be able to import the stand-in by its name.
sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Bench:
    """A folder of items, an output folder, and what happened."""

    root: Path
    events: list[Any] = field(default_factory=list)

    @property
    def inputs(self) -> Path:
        return self.root / "scans"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def put(self, **texts: str) -> None:
        """Writes items by name."""
        self.inputs.mkdir(exist_ok=True)
        for name, text in texts.items():
            (self.inputs / f"{name}.item").write_text(text)

    def run(
        self, *inputs: Path, source: Any = None, report: Callable[[Any], None] | None = None, **settings: Any
    ) -> Any:
        """One call; events of earlier calls are forgotten."""
        from stand_in_predictor import StandInSource

        from pipelines.inference.batch import run_batch
        from pipelines.inference.settings import BatchSettings

        self.events.clear()

        def note(event: Any) -> None:
            self.events.append(event)
            if report is not None:
                report(event)

        return run_batch(
            source or StandInSource(), list(inputs) or [self.inputs], self.out, BatchSettings(**settings), report=note
        )

    def outcomes(self) -> dict[str, str]:
        """Item → outcome, from the ledger."""
        return {name: record.outcome for name, record in self.records().items()}

    def records(self) -> Mapping[str, Any]:
        """Item → record, from the ledger."""
        from pipelines.inference.ledger import Ledger

        ledger = Ledger(self.out / "ledger.sqlite")
        try:
            return ledger.records()
        finally:
            ledger.close()

    def results(self) -> dict[str, str]:
        """Item → content of its result file, from the folder."""
        return {path.parent.name: path.read_text() for path in self.out.glob("*/*.upper")}

    def started(self) -> list[str]:
        """Items that were handed to a worker, once for each attempt."""
        return [event.item_id for event in self.events if event.kind == "started"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
