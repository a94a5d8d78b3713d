"""Which samples make up which batch, and how they reach the training process.

The training samples form one endless stream: a pass over all of them in a random order, then another pass in another
order. Batch `k` is the `k`-th piece of that stream, so a batch is a function of the seed and its number alone: not of
the number of workers, not of the number of processes, and not of how often the run was stopped and resumed. Every batch
is full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pipelines.errors import CaseError, DataError, PulvinarError
from pipelines.task import ArrangedData, SampleKey, TrainingData

__all__ = ["Fetched", "SampleStream", "batch_case_ids", "derive_seed", "make_loader", "map_tensors", "seed_torch"]

_SHUFFLE, _SAMPLE = 1, 2


def derive_seed(*parts: int) -> int:
    """A 64-bit seed from a run's seed and whatever else tells the uses of it apart."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def seed_torch(*parts: int) -> None:
    """Seeds torch's own generators from a run's seed and what else tells this use of them apart.

    `torch.manual_seed` would queue a call with a stack trace for every kind of device that is not in use: most of a
    millisecond each time, and memory that is never freed.
    """
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)


@dataclass(frozen=True)
class SampleStream:
    """The endless stream of samples, cut into batches.

    Attributes:
        length: Samples of one pass.
        batch_size: Samples of one batch, over all processes.
        seed: The run's seed.
        arranged: What decides the order of a pass, where it is not shuffled.
    """

    length: int
    batch_size: int
    seed: int
    arranged: ArrangedData | None = None
    _passes: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def over(cls, data: TrainingData, batch_size: int, seed: int) -> SampleStream:
        """The stream of some training data, in its own order where it has one."""
        if isinstance(data, ArrangedData):
            return cls(data.pass_length(batch_size), batch_size, seed, data)
        return cls(len(data), batch_size, seed)

    @property
    def batches_per_pass(self) -> int:
        """Batches that cover at least one pass."""
        return -(-self.length // self.batch_size)

    def batch(self, number: int) -> list[SampleKey]:
        """The keys of one batch, from 0. The `epoch` of a key is the pass it belongs to."""
        first = number * self.batch_size
        keys = []
        for position in range(first, first + self.batch_size):
            turn, place = divmod(position, self.length)
            keys.append(SampleKey(turn, self._pass(turn)[place]))
        return keys

    def _pass(self, number: int) -> tuple[int, ...]:
        """The order of a pass; the last two are kept, since a batch may reach into the next one."""
        if number not in self._passes:
            for old in sorted(self._passes)[:-1]:
                del self._passes[old]
            self._passes[number] = self._arrange(number)
        return self._passes[number]

    def _arrange(self, number: int) -> tuple[int, ...]:
        rng = np.random.default_rng((self.seed, _SHUFFLE, number))
        if self.arranged is None:
            return tuple(rng.permutation(self.length).tolist())
        order = tuple(int(index) for index in self.arranged.arrange(rng, self.batch_size))
        if len(order) != self.length:
            raise ValueError(f"a pass was announced with {self.length} samples and arranged with {len(order)}")
        return order


@dataclass
class Fetched:
    """A batch as it comes out of a worker, or the reason why there is none.

    Exceptions are carried as values: raised in a worker they would lose their type and their case on the way.
    """

    batch: Any = None
    problem: PulvinarError | None = None
    skipped: list[CaseError] = field(default_factory=list)

    def pin_memory(self, *_: object) -> Fetched:
        """Moves tensors to page-locked memory; the loader calls it when training on a GPU."""
        self.batch = map_tensors(self.batch, Tensor.pin_memory)
        return self


class _Samples(Dataset[Fetched]):
    """Turns the keys of a batch into the batch; the same bits in a worker and in the training process."""

    def __init__(self, data: TrainingData, *, seed: int, skip_bad_cases: bool) -> None:
        self.data = data
        self.seed = seed
        self.skip_bad_cases = skip_bad_cases

    def __getitem__(self, keys: Any) -> Fetched:
        fetched = Fetched()
        try:
            with _one_thread():
                samples = [self._sample(key, fetched) for key in cast("list[SampleKey]", keys)]
                fetched.batch = self.data.collate(samples)
        except PulvinarError as error:
            fetched.problem = error
        return fetched

    def _sample(self, key: SampleKey, fetched: Fetched) -> Any:
        """One sample; in place of a case that cannot be read, the next one that can."""
        length = len(self.data)
        for offset in range(length):
            candidate = SampleKey(key.epoch, (key.index + offset) % length)
            seed_torch(self.seed, _SAMPLE, candidate.epoch, candidate.index)
            try:
                return self.data[candidate]
            except CaseError as error:
                if not self.skip_bad_cases:
                    raise
                fetched.skipped.append(error)
        raise DataError(
            f"none of the {length} training samples can be read; the last one: {fetched.skipped[-1]}",
            hint="`pulvinar validate` checks every case.",
        )


class _ShareOfBatches(Sampler[list[SampleKey]]):
    """This process's share of batches `start` to `stop`."""

    def __init__(self, stream: SampleStream, start: int, stop: int, *, rank: int, processes: int) -> None:
        self.stream, self.start, self.stop = stream, start, stop
        share = stream.batch_size // processes
        self.share = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return (self.stream.batch(number)[self.share] for number in range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def make_loader(
    data: TrainingData,
    stream: SampleStream,
    *,
    start: int,
    stop: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    pin: bool = False,
    skip_bad_cases: bool = False,
) -> DataLoader[Fetched]:
    """A loader over batches `start` to `stop` of the stream; it runs on over epochs, so workers never start twice.

    Args:
        data: The training samples.
        stream: The order of samples.
        start: First batch.
        stop: One after the last batch.
        rank: This process.
        processes: All processes; `batch_size` of the stream is a multiple of it.
        workers: Loader processes.
        pin: Whether to put tensors into page-locked memory, for transfers to a GPU.
        skip_bad_cases: Whether the next readable sample takes the place of one that raises `CaseError`.
    """
    return DataLoader(
        _Samples(data, seed=stream.seed, skip_bad_cases=skip_bad_cases),
        sampler=cast("Sampler[Any]", _ShareOfBatches(stream, start, stop, rank=rank, processes=processes)),
        batch_size=None,
        collate_fn=cast("Callable[[list[Any]], Any]", _unchanged),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_prepare_worker if workers else None,
        prefetch_factor=2 if workers else None,
    )


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Applies `change` to every tensor in mappings, lists and tuples; leaves the rest as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(item, change) for name, item in value.items()}
    if isinstance(value, tuple):
        items = [map_tensors(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_tensors(item, change) for item in value]
    return value


def batch_case_ids(batch: Any) -> list[str]:
    """The cases of a batch, where it says so under `case_id`."""
    ids = batch.get("case_id") if isinstance(batch, Mapping) else None
    if isinstance(ids, str):
        return [ids]
    return [str(case_id) for case_id in ids] if isinstance(ids, Sequence) else []


def _unchanged(fetched: Fetched) -> Fetched:
    return fetched


@contextmanager
def _one_thread() -> Iterator[None]:
    """Workers have one thread; so has the training process while it prepares samples, for the same bits."""
    threads = torch.get_num_threads()
    if threads == 1 or get_worker_info() is not None:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _prepare_worker(_: int) -> None:
    """Ctrl-C and a signal to the whole process group reach workers too, which must live until the step is finished.

    The first SIGTERM is let pass; a second one, as the loader sends to a worker that does not end by itself, ends it.
    """
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
