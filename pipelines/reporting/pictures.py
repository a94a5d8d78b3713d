"""Pictures as data addresses, small enough for the whole report to be mailed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BUDGET", "embed_pictures"]

BUDGET = 3_000_000
"""Bytes of picture files in one report; base64 makes a third more of it."""

_STEPS = ((1800, 90), (1400, 85), (1000, 80), (700, 75), (480, 60))


def embed_pictures(files: Sequence[Path], budget: int = BUDGET) -> dict[Path, str]:
    """`data:` addresses. Small files keep every pixel; larger ones become JPEG, scaled as far as needed.

    A file that is no picture is left out.
    """
    share = budget // max(len(files), 1)
    embedded = {}
    for file in files:
        encoded = _encode(file, share)
        if encoded is not None:
            kind, data = encoded
            embedded[file] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return embedded


def _encode(file: Path, limit: int) -> tuple[str, bytes] | None:
    from PIL import Image, UnidentifiedImageError

    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            if len(data) <= limit and opened.format == "PNG":
                return "png", data
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    for width, quality in _STEPS:
        scaled = image.copy()
        scaled.thumbnail((width, width * 4))
        buffer = io.BytesIO()
        scaled.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= limit:
            break
    return "jpeg", buffer.getvalue()
