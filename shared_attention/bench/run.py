"""Measure many mechanisms on many sizes, one process a measurement and one at a time.

>>> measure_apart(Request("eca", (4, 5), channels=8, seconds=0)).outcome
'ok'
>>> measure_apart(Request("eca", (4, 5), channels=8, arguments={"kernel": 2})).message
'ValueError: kernel 2 is not odd and above zero'
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from multiprocessing.context import ForkServerContext, SpawnContext

from shared_attention.bench.child import serve
from shared_attention.bench.plan import Measurement, Outcome, Request

__all__ = ["measure_all", "measure_apart"]


def measure_all(
    requests: Iterable[Request], *, memory: float | None = None, timeout: float = 300.0
) -> Iterator[Measurement]:
    """Measure each request in a process of its own, as it is asked for.

    A mechanism that ran out of memory or time on one grid is not tried on the larger ones that follow.

    Args:
        requests: In order of size for each mechanism.
        memory: Bytes that one CPU measurement may take, None for no limit.
        timeout: Seconds that one may take.
    """
    spent: dict[str, Measurement] = {}
    for request in requests:
        before = spent.get(request.name)
        if before is not None and request.tokens >= before.tokens:
            yield Measurement(request, before.outcome, message=f"as with {before.tokens} tokens; not tried")
            continue
        result = measure_apart(request, memory=memory, timeout=timeout)
        if result.outcome in ("out_of_memory", "timeout"):
            spent[request.name] = result
        yield result


def measure_apart(request: Request, *, memory: float | None = None, timeout: float = 300.0) -> Measurement:
    """Measure in a fresh process; whatever happens to that one, this one gets a `Measurement`."""
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(request, memory, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            return Measurement(request, "timeout", message=f"took more than {timeout:g} seconds")
        result: Measurement = ours.recv()
    except EOFError:
        process.join()
        killed = process.exitcode == -9  # how Linux ends what takes too much memory
        outcome: Outcome = "out_of_memory" if killed else "failed"
        return Measurement(request, outcome, message=f"the process ended with exit code {process.exitcode}")
    else:
        return result
    finally:
        process.kill()
        process.join()
        ours.close()


def _context() -> ForkServerContext | SpawnContext:
    """Processes that begin with torch imported and nothing run."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shared_attention.bench.child"])
    return context
