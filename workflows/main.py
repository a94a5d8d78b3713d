"""`pulvinar`: the command line, and the exit code of everything that can go wrong."""

from __future__ import annotations

import os
import sys

from pipelines.errors import ConfigurationError, ExitCode, PulvinarError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    import typer

    _wait_without_spinning()
    from workflows.cli import app
    from workflows.console import complain

    try:
        code = app(arguments, prog_name="pulvinar", standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        complain("stopped")
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]  # every usage error has it
        return ExitCode.USAGE
    except ConfigurationError as error:
        for problem in error.problems:
            complain(str(problem), label="")
        if error.hint:
            complain(error.hint, label="")
        return ExitCode.USAGE
    except PulvinarError as error:
        complain(error.message)
        if error.hint:
            complain(error.hint, label="")
        return error.exit_code
    except KeyboardInterrupt:
        complain("stopped")
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        complain(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        return ExitCode.ENVIRONMENT
    return int(code or 0)


def _wait_without_spinning() -> None:
    """Threads that spin while they wait for one another keep everything else off the cores they wait for.

    On two cores that other programs use too, training steps took several times as long. It must be said before torch is
    imported.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    main()
