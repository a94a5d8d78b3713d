"""Drawing persons: bones and joints by the set of joints, how surely each is known, boxes and names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.video.skeletons.joints import JointSet

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["Person", "PersonPainter", "text_size"]

_MIDDLE, _ONE_SIDE, _OTHER_SIDE = (245, 245, 245), (64, 160, 255), (255, 140, 40)
_BOXES = ((80, 220, 120), (230, 90, 160), (250, 210, 60), (120, 200, 250), (190, 130, 250), (250, 120, 100))
_FAINTEST = 70
"""Opacity of a bone that is hardly known; a certain one has 255."""
_EDGE = 150
"""Opacity of the dark edge of a certain bone."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person, or animal, of one frame.

    Attributes:
        coordinates: `(J, 2)` pixels of the frame, x to the right and y downwards; the first pixel's centre is 0, 0.
            None where only a box is known.
        confidence: `(J,)`, 0 (not seen, not drawn) to 1; None is 1 for every finite joint.
        box: Left, top, right and bottom in pixels; None draws none.
        name: Written at the box or above the highest joint: a track, an action, a number.
        colour: Which colour box and name have; persons of a frame are numbered where it is None.
    """

    coordinates: NDArray[np.floating[Any]] | None = None
    confidence: NDArray[np.floating[Any]] | None = None
    box: tuple[float, float, float, float] | None = field(default=None)
    name: str = ""
    colour: int | None = None


class PersonPainter:
    """Draws persons of one set of joints: the first sides of its flip pairs blue, the others orange, the middle white.

    A joint of which the model is sure is a dot, one below `sure` a ring; bones fade with the less sure of their ends.

    Args:
        joints: The joints; None where there are boxes only.
        scale: Pixels of the drawing to one of the frame.
        sure: Confidence from which a joint is a dot.
    """

    def __init__(self, joints: JointSet | None, *, scale: int = 1, sure: float = 0.3) -> None:
        self.joints, self.scale, self.sure = joints, scale, sure
        self._colours = _colours(joints) if joints else []
        self._bones = [tuple(map(joints.joints.index, bone)) for bone in joints.bones] if joints else []

    def draw(self, picture: Image, persons: list[Person]) -> None:
        """Draws into an RGB picture. Raises `ValueError` where a person has other joints."""
        from PIL import ImageDraw

        thickness = max(2, round(min(picture.size) / 200))  # colours of one pixel are lost in coding
        pen = ImageDraw.Draw(picture, "RGBA")
        for number, person in enumerate(persons):
            colour = _BOXES[(number if person.colour is None else person.colour) % len(_BOXES)]
            points, sureness = self._points(person)
            if person.box is not None:
                left, top, right, bottom = self._placed(np.array(person.box).reshape(2, 2)).reshape(4)
                corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
                pen.rectangle(corners, outline=colour, width=thickness)
            self._draw_skeleton(pen, points, sureness, thickness)
            if person.name:
                self._draw_name(pen, person, points[sureness > 0], colour, picture.size)

    def _points(self, person: Person) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places `(J, 2)` in the drawing and confidence `(J,)`; 0 where nothing is to be drawn."""
        if person.coordinates is None:
            return np.zeros((0, 2)), np.zeros(0)
        if self.joints is None:
            raise ValueError("a person has joints, but the overlay was given no set of joints: name one, joints=...")
        points = np.asarray(person.coordinates, dtype=np.float64)
        if points.shape != (len(self.joints), 2):
            raise ValueError(f"coordinates {points.shape}; {self.joints.name} takes {(len(self.joints), 2)}")
        known = np.ones(len(points)) if person.confidence is None else np.asarray(person.confidence, dtype=np.float64)
        if known.shape != (len(points),):
            raise ValueError(f"confidence {known.shape}; {self.joints.name} takes {(len(self.joints),)}")
        there = np.isfinite(points).all(1) & np.isfinite(known)
        return self._placed(np.where(there[:, None], points, 0.0)), np.where(there, known.clip(0, 1), 0.0)

    def _placed(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Centres of pixels of the frame to those of the drawing; far outside is held at the edge of what PIL draws."""
        return np.clip((points + 0.5) * self.scale - 0.5, -1e5, 1e5)

    def _draw_skeleton(
        self, pen: ImageDraw, points: NDArray[np.float64], sureness: NDArray[np.float64], thickness: int
    ) -> None:
        for first, second in self._bones if len(points) else ():
            weaker = min(sureness[first], sureness[second])
            if weaker > 0:
                colour = self._colours[second] if self._colours[first] == _MIDDLE else self._colours[first]
                opacity = round(_FAINTEST + (255 - _FAINTEST) * weaker)
                bone = [*points[first], *points[second]]
                if thickness > 2:  # bones must be told from a sky or a shirt of their own colour
                    pen.line(bone, fill=(0, 0, 0, round(_EDGE * weaker)), width=thickness + 2)
                pen.line(bone, fill=(*colour, opacity), width=thickness)
        radius = 1.2 * thickness
        for (x, y), known, colour in zip(points, sureness, self._colours, strict=False):
            around = (x - radius, y - radius, x + radius, y + radius)
            if known >= self.sure:
                pen.ellipse(around, fill=colour, outline=(0, 0, 0, 160) if thickness > 2 else None)
            elif known > 0:
                pen.ellipse(around, outline=colour)

    def _draw_name(
        self,
        pen: ImageDraw,
        person: Person,
        points: NDArray[np.float64],
        colour: tuple[int, int, int],
        size: tuple[int, int],
    ) -> None:
        from PIL import ImageFont

        if person.box is not None:
            (x, _), (_, y) = self._placed(np.array([person.box[:2], person.box[:2]]))
        elif len(points):
            x, y = points[:, 0].min(), points[:, 1].min()
        else:
            return
        font: Any = ImageFont.load_default(size=text_size(size))
        left, top, right, bottom = pen.textbbox((0, 0), person.name, font=font)
        wide, high = right - left, bottom - top
        x, y = float(np.clip(x, 0, max(size[0] - wide - 4, 0))), float(np.clip(y - high - 5, 0, max(size[1] - high, 0)))
        # Dark letters on the colour: coloured ones on a dark ground are lost in coding, which halves colours.
        pen.rectangle((x, y, x + wide + 4, y + high + 4), fill=(*colour, 235))
        pen.text((x + 2 - left, y + 2 - top), person.name, fill=(10, 10, 10), font=font)


def text_size(size: tuple[int, int]) -> int:
    """Height of letters for a picture of this width and height."""
    return max(12, min(28, round(min(size) / 26)))


def _colours(joints: JointSet) -> list[tuple[int, int, int]]:
    first, second = ({pair[side] for pair in joints.flip} for side in (0, 1))
    return [_ONE_SIDE if one in first else _OTHER_SIDE if one in second else _MIDDLE for one in joints.joints]
