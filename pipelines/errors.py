"""Every error a user can meet, and the exit code it ends with.

    PulvinarError                      1
    ├── ConfigurationError             2   a workflow, an option or an argument; holds every problem at once
    ├── DataError                      4   the cases as a whole cannot be used
    │   ├── SplitLeakError             4   one group stands in two parts
    │   └── CaseError                  4   one case cannot be used; a batch sets it aside and goes on
    ├── ModelFolderError               4   a model folder is incomplete, altered or of another version
    ├── EnvironmentProblem             5   a library, a device, a disk or a server is missing or full
    ├── TrainingError                  1   training cannot go on (NaN loss, out of memory)
    └── Interrupted                   75   stopped by a signal; state is saved and can be resumed

Messages say what was wrong, what is allowed, and what to do next (`hint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "CaseError",
    "ConfigurationError",
    "DataError",
    "EnvironmentProblem",
    "ExitCode",
    "Interrupted",
    "ModelFolderError",
    "Problem",
    "PulvinarError",
    "SplitLeakError",
    "TrainingError",
]


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    CRASH = 1
    USAGE = 2
    SOME_FAILED = 3
    DATA = 4
    ENVIRONMENT = 5
    INTERRUPTED = 75


class PulvinarError(Exception):
    """Root of all errors that Pulvinar raises on purpose.

    Args:
        message: What was wrong, with the value, and what is allowed.
        hint: What to do or type next.
    """

    exit_code: ExitCode = ExitCode.CRASH

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a configuration: where, which key, and what."""

    where: str
    """`file:line:column`, `command line` or an empty string."""
    key: str
    """Dotted key, empty when the problem is with a whole file."""
    message: str

    def __str__(self) -> str:
        told = f"{self.key}: {self.message}" if self.key else self.message
        return f"{self.where}  {told}" if self.where else told


class ConfigurationError(PulvinarError):
    """A workflow file, an override or an argument is wrong; holds every problem found."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem] | str, *, hint: str = "") -> None:
        self.problems = (Problem("", "", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class DataError(PulvinarError):
    """The data cannot be used as they are."""

    exit_code = ExitCode.DATA


class SplitLeakError(DataError):
    """A group has cases in more than one part of a split."""


class CaseError(DataError):
    """One case cannot be used.

    Args:
        case_id: The case.
        reason: A short reason, as it is written to tables and ledgers.
        hint: What to do about it.
    """

    def __init__(self, case_id: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{case_id}: {reason}", hint=hint)
        self.case_id = case_id
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_case_error, (type(self), self.case_id, self.reason, self.hint)


def _rebuild_case_error(kind: type[CaseError], case_id: str, reason: str, hint: str) -> CaseError:
    return kind(case_id, reason, hint=hint)


class ModelFolderError(PulvinarError):
    """A model folder is incomplete, altered, or written for something else."""

    exit_code = ExitCode.DATA


class EnvironmentProblem(PulvinarError):
    """The machine lacks something: a library, a device, memory, disk space, a server."""

    exit_code = ExitCode.ENVIRONMENT


class TrainingError(PulvinarError):
    """Training cannot go on."""


class Interrupted(PulvinarError):
    """A signal stopped the work; what was done is saved."""

    exit_code = ExitCode.INTERRUPTED
