"""What every mechanism does and holds, counted: growth of its operations, and its peak on 100,000 tokens.

    python benchmarks/attention_counts.py [NAME...] [--axes 1|2|3]

Nothing is computed and no clock is read (see `shared_attention/bench/count.py`), so the numbers are the same on every
machine. Growth is that of a forward pass from 112 x 112 to 224 x 224 tokens of 64 channels (as many on a line, 28 to 42
a side in a volume), the peak that of a forward and backward pass of one sample of 100,000 tokens of 256 channels
in float32, without parameters, for mechanisms whose cost is linear.
"""

from __future__ import annotations

import argparse

from measure import print_table

from shared_attention import card, names
from shared_attention.bench import Request, cost_slope, grid_of, is_linear, slope
from shared_attention.bench.count import counted

SIZES = {1: (12544, 50176), 2: (12544, 50176), 3: (21952, 74088)}
CHANNELS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names())
    parser.add_argument("--axes", type=int, choices=(1, 2, 3), default=2)
    options = parser.parse_args()
    axes, sizes = options.axes, SIZES[options.axes]
    rows = []
    for name in options.names:
        if axes not in card(name).ranks:
            continue
        counts = [
            counted(Request(name, grid_of(size, axes), CHANNELS), training=False, backend="oracle") for size in sizes
        ]
        grown = slope(sizes, [count.multiplications + count.elementwise for count in counts])
        expected = cost_slope(name, sizes, channels=CHANNELS, axes=axes)
        linear = is_linear(name, axes=axes)
        peak = f"{counted(Request(name, grid_of(100_000, axes), 256)).peak / 2**30:.2f}" if linear else ""
        rows.append((name, f"{grown:.2f}", f"{expected:.2f}", peak))
    print_table(("mechanism", "operations grow with", "formula", "peak GiB"), rows)


if __name__ == "__main__":
    main()
