"""How embeddings are judged: rankings under the rules of the benchmarks, thresholds, re-ranking."""
