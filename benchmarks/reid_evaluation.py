"""Full evaluation of a retrieval at the size of Market-1501, against the plain loop over queries.

    python benchmarks/reid_evaluation.py

Both start from the same embeddings and labels, and end with mAP, mINP and the cumulative matching curve; both compute
all scores by one float32 matrix product (in blocks here, at once in the loop). The loop is the algorithm of the
commonly published evaluation codes, written out again: sort the gallery for each query, mask what is removed, walk the
ranking. Seconds are told by the clock and of the processor: on a busy machine only the latter compare.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from measure import environment, parser, save, spread, told

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.retrieval import evaluate_retrieval
from domains.reid.judging.rules import matching_rule

DEPTH = 50


def made_up_sets(queries: int, gallery: int, channels: int, *, seed: int = 0) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Embeddings with the make-up of Market-1501: 750 identities, six cameras, distractors and junk in the gallery."""
    generator = np.random.default_rng(seed)
    people = max(2, 750 * gallery // 19732)
    centres = generator.normal(size=(people + 1, channels))
    asked = np.arange(queries) % people + 1
    there = generator.integers(1, people + 1, gallery)
    kind = generator.random(gallery)
    shown = np.where(kind < 0.14, 0, np.where(kind < 0.33, -1, there))

    def images(identities: np.ndarray[Any, Any], scattered: np.ndarray[Any, Any]) -> EmbeddingSet:
        noise = generator.normal(size=(len(identities), channels))
        values = np.where(scattered[:, None], 0, centres[np.maximum(identities, 0)]) + 2.5 * noise
        cameras = generator.integers(1, 7, len(identities))
        return EmbeddingSet.of(values.astype(np.float32), identities, cameras)

    return images(asked, np.zeros(queries, dtype=bool)), images(shown, shown < 1)


def plain_evaluation(query: EmbeddingSet, gallery: EmbeddingSet) -> dict[str, Any]:
    """The loop over queries."""
    left = query.embeddings / np.linalg.norm(query.embeddings, axis=1, keepdims=True)
    right = gallery.embeddings / np.linalg.norm(gallery.embeddings, axis=1, keepdims=True)
    distances = 1 - left @ right.T
    who, whose = gallery.identities.astype(int), query.identities.astype(int)
    where, whence = np.asarray(gallery.cameras).astype(int), np.asarray(query.cameras).astype(int)
    curves, precisions, penalties = [], [], []
    for row in range(len(query)):
        order = np.argsort(distances[row], kind="stable")
        removed = ((who[order] == whose[row]) & (where[order] == whence[row])) | (who[order] == -1)
        matches = (who[order] == whose[row])[~removed].astype(np.int32)
        if not matches.any():
            continue
        running = matches.cumsum()
        last = np.max(np.where(matches == 1)[0])
        penalties.append(running[last] / (last + 1.0))
        found = running.copy()
        found[found > 1] = 1
        curves.append(found[:DEPTH])
        precision = np.asarray([hits / (place + 1.0) for place, hits in enumerate(running)]) * matches
        precisions.append(precision.sum() / matches.sum())
    return {"map": np.mean(precisions), "minp": np.mean(penalties), "cmc": np.mean(curves, axis=0)}


def our_evaluation(query: EmbeddingSet, gallery: EmbeddingSet) -> dict[str, Any]:
    """The same by counted ranks."""
    result = evaluate_retrieval(query, gallery, matching_rule("market1501"))
    means = result.means()
    return {"map": means["map"], "minp": means["minp"], "cmc": result.cmc(DEPTH)}


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Over mAP, mINP and all points of the curve."""
    return float(max(np.abs(np.asarray(first[name]) - np.asarray(second[name])).max() for name in first))


def main() -> None:
    asked = parser(__doc__ or "", turns=3).parse_args()
    size = (60, 400, 32) if asked.quick else (3368, 19732, 512)
    query, gallery = made_up_sets(*size)
    contestants = {"counted ranks": our_evaluation, "plain loop": plain_evaluation}
    results: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    about = environment()
    for turn in range(asked.turns):
        # Whoever goes first changes from turn to turn.
        for name in list(contestants)[:: 1 if turn % 2 == 0 else -1]:
            began, busy = time.perf_counter(), time.process_time()
            results[name] = contestants[name](query, gallery)
            seconds[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - busy)
    ratios = {
        what: [slow / fast for slow, fast in zip(values["plain loop"], values["counted ranks"], strict=True)]
        for what, values in (("clock", seconds), ("processor", processor))
    }
    difference = largest_difference(results["counted ranks"], results["plain loop"])
    print(f"{size[0]:,} queries x {size[1]:,} images x {size[2]} channels, {asked.turns} turns")
    for name in contestants:
        print(f"  {name:<14} {told(seconds[name], ' s')} by the clock, {told(processor[name], ' s')} of the processor")
    print(f"  times faster   {told(ratios['clock'])} by the clock, {told(ratios['processor'])} of the processor")
    print(f"  mAP {results['counted ranks']['map']:.6f}; largest difference of any number {difference:.1e}")
    save(
        asked,
        "reid_evaluation",
        about,
        {
            "queries, images, channels": size,
            "seconds": seconds,
            "processor seconds": processor,
            "times faster": {what: spread(values) for what, values in ratios.items()},
            "map": float(results["counted ranks"]["map"]),
            "largest difference": difference,
        },
    )


if __name__ == "__main__":
    main()
