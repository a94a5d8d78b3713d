"""Pictures of actions: which ones are confused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.task import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["draw_confusion", "pixels"]

_MOST_NAMED = 40


def draw_confusion(counts: NDArray[np.intp], classes: Sequence[str], *, failed: int = 0) -> Figure:
    """The confusion matrix; rows are what clips show. `failed` more have no prediction, and stand nowhere in it."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    side = min(14.0, 3 + 0.28 * len(classes))
    drawing = Drawing(figsize=(side, side), dpi=90)
    axes = drawing.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= _MOST_NAMED:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set(xlabel="taken for", ylabel="shows")
    total, wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    table = pd.DataFrame(counts, index=list(classes), columns=list(classes)).rename_axis("shows").reset_index()
    told = f"Confusion of {total} clips; {wrong} are wrong"
    told += f", {failed} more have no prediction." if failed else "."
    return Figure("confusion", pixels(drawing), told, table)


def pixels(drawing: Drawing) -> NDArray[np.uint8]:
    """A drawing as uint8 `(H, W, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(drawing)
    drawing.tight_layout()
    canvas.draw()
    image: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return image
