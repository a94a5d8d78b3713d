"""What attention costs at inference: light blocks and other gates in the CNN, DCAL beside the same plain transformer.

The networks take turns on the same pictures; times are processor time of one thread for a batch, so that other work on
the machine shows little. Weights do not matter for time and are random. How well each of them finds is told by
`pulvinar run`; this says what it costs.

    python benchmarks/reid_inference.py
    python benchmarks/reid_inference.py --batch 1 --size 256 128 --width small
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from measure import environment, parser, print_table, save, told

CNN = {
    "no attention": ("none", ()),
    "light, stage 6": ("light", (6,)),
    "light, stages 5 and 6": ("light", (5, 6)),
    "light, all stages": ("light", (1, 2, 3, 4, 5, 6, 7)),
    "eca, stage 6": ("eca", (6,)),
    "ela, stage 6": ("ela", (6,)),
    "full, stage 6": ("full", (6,)),
}
DCAL: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "DCAL": {},
    "DCAL, mean of chosen patches": {"summary": "patches"},
    "DCAL, pairs alone": {"local": False},
}


def options() -> argparse.Namespace:
    made = parser(__doc__ or "", turns=15)
    made.add_argument("--size", type=int, nargs=2, default=(256, 128), help="height and width of pictures")
    made.add_argument("--batch", type=int, default=8, help="pictures in a batch")
    made.add_argument("--width", default="tiny", choices=("tiny", "small", "base"), help="of the transformer")
    return made.parse_args()


def networks(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name → network of both families, in evaluation mode."""
    from domains.reid.building import build_network
    from domains.reid.retrieval.settings import RetrievalWorkflow

    def made(model: dict[str, Any]) -> Any:
        config = RetrievalWorkflow.model_validate(
            {
                "task": "reid/retrieval",
                "name": "cost",
                "data": {"format": "identities", "root": "."},
                "input": {"size": list(given.size)},
                "model": model,
            }
        )
        return build_network(config.model, config.head, config.loss, config.input, identities=100).eval()

    cnn: dict[str, Any] = {"name": "efficientnet_lite0", "weights": "none"}
    vit: dict[str, Any] = {"name": "vit", "width": given.width}
    if given.quick:
        vit |= {"width": None, "dim": 16, "depth": 2, "heads": 2}
    return {
        "EfficientNet-lite0": {
            name: made({**cnn, "attention": {"name": kind}, "attention_stages": stages or (6,)})
            for name, (kind, stages) in CNN.items()
        },
        f"ViT {given.width}": {name: made({**vit, "dcal": dcal}) for name, dcal in DCAL.items()},
    }


def main() -> None:
    import torch

    given = options()
    if given.quick:
        given.size, given.batch, given.turns = (32, 16), 2, 2
    torch.set_num_threads(1)
    about = environment()
    images = torch.randn(given.batch, 3, *given.size, generator=torch.Generator().manual_seed(0))
    results: dict[str, Any] = {"size": list(given.size), "batch": given.batch, "networks": {}}
    rows = []
    for family, members in networks(given).items():
        times: dict[str, list[float]] = {name: [] for name in members}
        with torch.inference_mode():
            for turn in range(given.turns + 1):
                for name, network in members.items():
                    started = time.process_time()
                    network(images)
                    if turn:  # the first one warms up
                        times[name].append((time.process_time() - started) * 1000)
        first = next(iter(times.values()))
        for name, network in members.items():
            ratios = [own / plain for own, plain in zip(times[name], first, strict=True)]
            parameters = sum(parameter.numel() for parameter in network.backbone.parameters())
            results["networks"][f"{family}: {name}"] = {
                "milliseconds": times[name],
                "ratios": ratios,
                "parameters of the backbone": parameters,
            }
            rows.append((family, name, told(times[name], " ms", 1), told(ratios, "", 3), f"{parameters:,}"))
    print_table(("family", "network", "a batch (middle half)", "to the first (middle half)", "parameters"), rows)
    save(given, "reid_inference", about, results)


if __name__ == "__main__":
    main()
