"""Time and memory of the mechanisms, each measured in a process of its own, and how they grow with the tokens.

requests = [Request("agent", grid_of(tokens, axes=2), channels=64) for tokens in (1024, 4096)]
for measurement in measure_all(requests):
    print(measurement.name, measurement.tokens, measurement.training_seconds, measurement.training_bytes)
"""

from shared_attention.bench.growth import Growth, cost_slope, growth, is_linear, slope
from shared_attention.bench.plan import Measurement, Request, grid_of
from shared_attention.bench.run import measure_all, measure_apart

__all__ = [
    "Growth",
    "Measurement",
    "Request",
    "cost_slope",
    "grid_of",
    "growth",
    "is_linear",
    "measure_all",
    "measure_apart",
    "slope",
]
