"""From an item to a bag: files of features, one file of many bags, or a picture that is cut into tiles."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.medical.bags.arrays import open_arrays
from domains.medical.bags.settings import FeatureSettings
from domains.medical.slides.bagfiles import BAG_SUFFIXES, Bag, read_bag, read_bag_attributes, write_bag
from pipelines.cases import Case
from pipelines.digests import cache_folder, file_digests
from pipelines.errors import CaseError, DataError
from pipelines.task import Item

if TYPE_CHECKING:
    from domains.medical.slides.encoders import Encoder

__all__ = ["FILE_SUFFIXES", "BagReader", "item_of"]

FILE_SUFFIXES = (*BAG_SUFFIXES, ".npz", ".safetensors")
"""Files that hold one bag each."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_FEATURES = ("features", "feats", "embeddings", "X")
_log = logging.getLogger(__name__)


def item_of(case: Case) -> Item:
    """What a case is read from.

    Raises:
        CaseError: It has neither a bag, nor an image, nor a container.
    """
    if "bag" in case.paths:
        return Item(case.case_id, (case.paths["bag"],), "bag")
    if "image" in case.paths:
        return Item(case.case_id, (case.paths["image"],), "image")
    if "container" in case.paths:
        return Item(case.case_id, (case.paths["container"],), "arrays", {"bag": str(case.labels["bag"])})
    raise CaseError(
        case.case_id,
        "neither a bag nor an image",
        hint="Say which file it is: data.paths={bag: 'features/{case_id}.h5'}.",
    )


class BagReader:
    """Reads items, and keeps as many bags in memory as it may. Threads may share it.

    Args:
        settings: Encoder and tiles of pictures, where their features are kept, and the memory.
        device: Where the encoder runs.
    """

    def __init__(self, settings: FeatureSettings, *, device: str = "cpu") -> None:
        self._settings, self._device = settings, device
        self._limit = int(settings.cache_gigabytes * 2**30)
        self._kept: dict[tuple[Path, str, int], Bag] = {}
        self._size = 0
        self._lock = threading.Lock()
        self._encoding = threading.Lock()
        self._encoder: Encoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process is sent: how to read, not what was read."""
        return {"settings": self._settings, "device": self._device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"], device=state["device"])  # type: ignore[misc]

    def read(self, item: Item) -> Bag:
        """The whole bag. Raises `CaseError`."""
        path = item.paths[0]
        if not path.is_file():
            raise CaseError(item.item_id, "file not found", hint=f"There is no file {path.name!r} in its folder.")
        key = (path, item.detail.get("bag", ""), path.stat().st_mtime_ns)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None:
            return kept
        bag = self._read(item)
        with self._lock:
            if key not in self._kept and self._size + bag.features.nbytes <= self._limit:
                self._kept[key] = bag
                self._size += bag.features.nbytes
        return bag

    def look_at(self, item: Item) -> dict[str, Any]:
        """Instances and features, where they are known without reading all of the file. Raises `CaseError`."""
        path = item.paths[0]
        if not path.is_file():
            raise CaseError(item.item_id, "file not found", hint=f"There is no file {path.name!r} in its folder.")
        if item.kind == "image":
            return self._look_at_picture(item)
        if item.kind == "bag" and path.suffix.lower() in (".h5", ".hdf5"):
            found = read_bag_attributes(item.item_id, path)
            if not found["instances"]:
                raise CaseError(item.item_id, "empty bag: no instance", hint="The slide may hold no tissue.")
            return {name: found[name] for name in ("instances", "features")}
        bag = self.read(item)
        return {"instances": len(bag), "features": bag.features.shape[1]}

    def _read(self, item: Item) -> Bag:
        if item.kind == "arrays":
            return _from_arrays(item)
        if item.kind == "image":
            return self._from_picture(item)
        suffix = item.paths[0].suffix.lower()
        if suffix in (".npz", ".safetensors"):
            return _from_tensors(item.item_id, item.paths[0])
        return read_bag(item.item_id, item.paths[0])

    def _look_at_picture(self, item: Item) -> dict[str, Any]:
        from PIL import Image

        try:
            with Image.open(item.paths[0]) as picture:
                width, height = picture.size
        except (OSError, Image.DecompressionBombError) as error:
            raise CaseError(item.item_id, f"not a readable picture: {error}") from error
        if min(width, height) < self._settings.tile:
            raise CaseError(
                item.item_id,
                f"a picture of {width}×{height} pixels is smaller than one tile of {self._settings.tile}",
                hint="Set features.tile to a smaller side.",
            )
        return {"width": width, "height": height}

    def _from_picture(self, item: Item) -> Bag:
        """Features of a picture: kept ones of the same pixels, encoder and tiles, or new ones."""
        from PIL import Image

        from domains.medical.slides.images import encode_image

        self._look_at_picture(item)
        with self._encoding:
            encoder = self._loaded()
            wanted = encoder.describe() | {"tile": self._settings.tile, "overlap": self._settings.overlap}
            how = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
            pixels_digest = file_digests(item.paths)[item.paths[0]]
            folder = self._settings.folder or cache_folder() / "features"
            kept = folder / how / f"{pixels_digest[:32]}.h5"
            if kept.is_file():
                return read_bag(item.item_id, kept)
            with Image.open(item.paths[0]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            bag = encode_image(encoder, pixels, tile=self._settings.tile, overlap=self._settings.overlap)
            try:
                write_bag(kept, bag)
            except OSError as error:
                _log.warning("features of %s are not kept: %s", item.item_id, error)
            return bag

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            from domains.medical.slides.encoders import load_encoder

            self._encoder = load_encoder(self._settings.encoder, device=self._device)
        return self._encoder


def _from_arrays(item: Item) -> Bag:
    try:
        arrays = open_arrays(item.paths[0])
    except DataError as error:
        raise CaseError(item.item_id, error.message, hint=error.hint) from error
    name = item.detail.get("bag", "")
    if name not in arrays.members or not len(arrays.members[name]):
        raise CaseError(item.item_id, f"no instance of bag {name!r} in {item.paths[0].name}")
    return _checked(item.item_id, Bag(arrays.features[arrays.members[name]]))


def _from_tensors(case_id: str, path: Path) -> Bag:
    """A bag from `.npz` or `.safetensors`, with the names that HDF5 bags have."""
    try:
        held: Mapping[str, Any]
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                held = {name: archive[name] for name in archive}
        else:
            from safetensors.numpy import load_file

            held = load_file(path)
    except Exception as error:
        told = " ".join(str(error).split())[:120]
        raise CaseError(case_id, f"not a readable file of arrays: {told}", hint="Copy the file again.") from error
    features = next((held[name] for name in _FEATURES if name in held), None)
    if features is None or features.ndim != 2:
        raise CaseError(
            case_id,
            f"no array {_FEATURES[0]!r} (N, F) in the file; it has {', '.join(held) or 'none'}",
            hint="A bag has `features` (N, F) and may have `coords` (N, 2).",
        )
    coords = held.get("coords")
    corners = None if coords is None else np.asarray(coords).reshape(len(features), -1)[:, :2].astype(np.int64)
    return _checked(case_id, Bag(np.asarray(features, dtype=np.float32), corners))


def _checked(case_id: str, bag: Bag) -> Bag:
    if 0 in bag.features.shape:
        raise CaseError(case_id, f"empty bag: features {bag.features.shape}")
    if not np.isfinite(bag.features).all():
        raise CaseError(case_id, "features that are not finite numbers")
    return bag
