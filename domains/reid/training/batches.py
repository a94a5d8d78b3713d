"""Batches of P identities with K pictures each.

Every identity is drawn as often as its pictures fill groups of K, at least once in a pass. The groups are laid out
identity by identity and dealt to the batches in turn, so that no batch holds an identity twice; there is nothing to
search for and nothing that could go on for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pipelines.errors import DataError

__all__ = ["BalancedOrder"]


class BalancedOrder:
    """The order of a pass.

    Args:
        identities: Identity of each picture.
        cameras: Camera of each picture, to spread a group of K over cameras; None draws pictures alike.
        images: K, pictures of an identity in a batch.
        repeat: What sets with too few pictures or identities get: pictures that stand more than once (changed
            differently each time) and, where identities do not fill a batch, fewer of them with more pictures each.
            False is an error.
    """

    def __init__(
        self,
        identities: Sequence[str],
        *,
        cameras: Sequence[str] | None = None,
        images: int = 4,
        repeat: bool = False,
    ) -> None:
        self.images, self.repeat = images, repeat
        members: dict[str, list[int]] = defaultdict(list)
        for index, identity in enumerate(identities):
            members[identity].append(index)
        self._members = [members[identity] for identity in sorted(members)]
        self._cameras = cameras
        self._count = len(identities)

    def shape(self, batch_size: int) -> tuple[int, int]:
        """Identities P and pictures K of each in one batch.

        Raises:
            DataError: The batch is no multiple of K, or there are too few identities or pictures.
        """
        images, there = self.images, len(self._members)
        if batch_size % images:
            raise DataError(
                f"a batch of {batch_size} cannot hold {images} pictures of each identity",
                hint=f"Set train.batch_size to a multiple of {images}, or change sampling.images.",
            )
        wanted = batch_size // images
        short = sum(len(member) < images for member in self._members)
        if wanted > there and self.repeat:
            wanted = max(number for number in range(1, there + 1) if batch_size % number == 0)
            return wanted, batch_size // wanted
        if wanted > there:
            raise DataError(
                f"a batch of {batch_size} needs {wanted} identities with {images} pictures each; there are {there}",
                hint="Lower train.batch_size, or set sampling.repeat to take fewer identities with more pictures.",
            )
        if short and not self.repeat:
            fewest = min(map(len, self._members))
            raise DataError(
                f"{short} of {there} identities have fewer than {images} pictures, the fewest {fewest}",
                hint=f"Set sampling.images to {max(fewest, 1)}, or sampling.repeat to draw pictures more than once.",
            )
        return wanted, images

    def batches(self, batch_size: int) -> int:
        """Batches of one pass."""
        wanted, images = self.shape(batch_size)
        groups = sum(max(1, len(member) // images) for member in self._members)
        return -(-groups // wanted)

    def copies(self, batch_size: int) -> int:
        """How often one picture may stand in a pass at most."""
        _, images = self.shape(batch_size)
        most = self.batches(batch_size) * images
        return max(-(-most // len(member)) for member in self._members)

    def arrange(self, rng: np.random.Generator, batch_size: int) -> list[int]:
        """Samples of one pass, batch after batch: picture `index % n`, standing there for the `index // n`-th time."""
        wanted, images = self.shape(batch_size)
        batches = self.batches(batch_size)
        draws = [min(batches, max(1, len(member) // images)) for member in self._members]
        order = rng.permutation(len(draws)).tolist()
        missing = batches * wanted - sum(draws)
        while missing:  # P identities or more with `batches` places each: there is room for all that is missing
            for identity in order:
                if missing and draws[identity] < batches:
                    draws[identity] += 1
                    missing -= 1
        dealt: list[list[int]] = [[] for _ in range(batches)]
        place = 0
        for identity in order:
            drawn = self._draw(rng, self._members[identity], draws[identity] * images)
            for start in range(0, len(drawn), images):
                dealt[place % batches].extend(drawn[start : start + images])
                place += 1
        return [sample for batch in rng.permutation(batches).tolist() for sample in dealt[batch]]

    def _draw(self, rng: np.random.Generator, member: Sequence[int], count: int) -> list[int]:
        """Pictures of one identity in a random order, over and over until there are enough."""
        order = [member[place] for place in rng.permutation(len(member)).tolist()]
        if self._cameras is not None:
            order = _spread(order, self._cameras)
        return [order[place % len(order)] + place // len(order) * self._count for place in range(count)]


def _spread(order: Sequence[int], cameras: Sequence[str]) -> list[int]:
    """Pictures so that neighbours are of different cameras as far as it goes: one of each camera, and again."""
    turn: dict[str, int] = defaultdict(int)
    places = []
    for place, index in enumerate(order):
        places.append((turn[cameras[index]], place, index))
        turn[cameras[index]] += 1
    return [index for _, _, index in sorted(places)]
