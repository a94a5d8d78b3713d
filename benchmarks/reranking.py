"""Memory and time of k-reciprocal re-ranking, in sparse matrices and by the usual dense algorithm.

    python benchmarks/reranking.py
    python benchmarks/reranking.py --precision float64

Each runs in a process of its own, on the same embeddings. Memory is the peak of the resident set above what the process
had with everything imported and the embeddings read (on Linux). The dense algorithm is the commonly published one,
written out again in float32: the distances of all images to all, their order, the encodings and their average are
matrices of all by all. What is compared at the end is the ranking of the whole gallery for every query. In float32
images whose distances differ by rounding alone may change places: told are the share of equal ranks, and by how much
the dense distances ever decrease along the sparse ranking (0 where the rankings are equal).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

K1, K2, WEIGHT = 20, 6, 0.3
Matrix = np.ndarray[Any, Any]


def made_up_embeddings(images: int, channels: int, *, seed: int = 0, dtype: type = np.float32) -> Matrix:
    """About 25 images of each identity around its centre, in random order; of length 1."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(max(2, images // 25), channels))
    values = centres[generator.integers(0, len(centres), images)] + 1.5 * generator.normal(size=(images, channels))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def dense_distances(query: Matrix, gallery: Matrix) -> Matrix:
    """Re-ranked distances `(queries, gallery)` by dense matrices."""
    queries = len(query)
    features = np.concatenate([query, gallery])
    images = len(features)
    original = 2 - 2 * (features @ features.T)
    np.maximum(original, 0, out=original)
    original /= original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable").astype(np.int32)
    encoding = np.zeros_like(original)
    for image in range(images):
        forward = order[image, : K1 + 1]
        mutual = forward[np.where(order[forward, : K1 + 1] == image)[0]]
        expanded = mutual
        for candidate in mutual:
            near = order[candidate, : round(K1 / 2) + 1]
            theirs = near[np.where(order[near, : round(K1 / 2) + 1] == candidate)[0]]
            if len(np.intersect1d(theirs, mutual)) > 2 / 3 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        weight = np.exp(-original[image, expanded])
        encoding[image, expanded] = weight / weight.sum()
    averaged = np.zeros_like(encoding)
    for image in range(images):
        averaged[image] = encoding[order[image, :K2]].mean(axis=0)
    encoding = averaged
    del averaged, order
    having = [np.where(encoding[:, column] != 0)[0] for column in range(images)]
    jaccard = np.zeros((queries, images), dtype=original.dtype)
    for row in range(queries):
        shared = np.zeros(images, dtype=original.dtype)
        for column in np.where(encoding[row] != 0)[0]:
            shared[having[column]] += np.minimum(encoding[row, column], encoding[having[column], column])
        jaccard[row] = 1 - shared / (2 - shared)
    final = jaccard * (1 - WEIGHT) + original[:queries] * WEIGHT
    return np.asarray(final[:, queries:])


def sparse_distances(query: Matrix, gallery: Matrix) -> Matrix:
    """The same by `domains.reid.judging.reranking`."""
    from domains.reid.judging.reranking import rerank
    from domains.reid.judging.scores import blocks

    scores = rerank(query, gallery, k1=K1, k2=K2, weight=WEIGHT)
    distances = np.empty(scores.shape, dtype=query.dtype)
    for start, block in blocks(scores, cells=1_000_000):
        distances[start : start + len(block)] = -block
    return distances


def agreement(sparse: Matrix, dense: Matrix) -> dict[str, float]:
    """How far the rankings of two sets of distances `(queries, gallery)` agree."""
    ranked, expected = (np.argsort(one, axis=1, kind="stable") for one in (sparse, dense))
    along = np.take_along_axis(dense, ranked, axis=1)
    return {
        "share of equal ranks": float((ranked == expected).mean()),
        "largest difference of distances": float(np.abs(sparse - dense).max()),
        "largest decrease along the ranking": max(0.0, -float(np.diff(along, axis=1).min())),
    }


METHODS = {"sparse": sparse_distances, "dense": dense_distances}


def child(method: str, embeddings: Path, queries: int, distances: Path) -> None:
    """One method in this process: writes its distances, and prints seconds of the processor and bytes."""
    import scipy.sparse

    import domains.reid.judging.reranking
    import domains.reid.judging.scores

    assert scipy.sparse is not None
    assert domains.reid.judging.reranking is not None
    values = np.load(embeddings)
    before = _resident("VmRSS")
    # From here on the kernel counts the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    began = time.process_time()
    found = METHODS[method](values[:queries], values[queries:])
    seconds, peak = time.process_time() - began, _resident("VmHWM")
    print(json.dumps({"seconds": seconds, "bytes": peak - before, "bytes before": before}))
    np.save(distances, found)


def _resident(name: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def compare(images: int, queries: int, channels: int, precision: str) -> dict[str, Any]:
    """Both methods in processes of their own, and how far their rankings agree."""
    results: dict[str, Any] = {"images": images, "queries": queries, "channels": channels, "precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        embeddings = Path(folder) / "embeddings.npy"
        np.save(embeddings, made_up_embeddings(images, channels, dtype=np.dtype(precision).type))
        for method in METHODS:
            distances = Path(folder) / f"{method}.npy"
            command = [sys.executable, __file__, "--child", method, str(embeddings), str(queries), str(distances)]
            paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ":".join(paths)}
            )
            if done.returncode:
                raise RuntimeError(f"{method} ended with {done.returncode}: {done.stderr[-2000:]}")
            results[method] = json.loads(done.stdout)
        sparse, dense = (np.load(Path(folder) / f"{method}.npy") for method in METHODS)
    results["share of memory"] = results["sparse"]["bytes"] / results["dense"]["bytes"]
    results["times faster"] = results["dense"]["seconds"] / results["sparse"]["seconds"]
    results["agreement"] = agreement(sparse, dense)
    return results


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        method, embeddings, queries, distances = sys.argv[2:]
        child(method, Path(embeddings), int(queries), Path(distances))
        return
    from measure import environment, parser, save

    given: argparse.Namespace = _options(parser(__doc__ or "", turns=1))
    about = environment()
    found = compare(*((300, 60, 32) if given.quick else (given.images, given.images // 8, 512)), given.precision)
    print(f"{found['images']:,} images, {found['queries']:,} of them queries, {found['channels']} channels")
    for method in METHODS:
        mebibytes, seconds = found[method]["bytes"] / 2**20, found[method]["seconds"]
        print(f"  {method:<7} {mebibytes:8.0f} MiB  {seconds:7.1f} s of the processor")
    print(f"  sparse takes {found['share of memory']:.3f} of the memory, {found['times faster']:.1f} times as fast")
    for what, value in found["agreement"].items():
        print(f"  {what}: {value:.7g}")
    save(given, "reranking", about, found)


def _options(parsing: argparse.ArgumentParser) -> argparse.Namespace:
    parsing.add_argument("--images", type=int, default=6000, help="queries and gallery together")
    parsing.add_argument("--precision", choices=("float32", "float64"), default="float32", help="of all numbers")
    return parsing.parse_args()


if __name__ == "__main__":
    main()
