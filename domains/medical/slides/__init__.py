"""Whole-slide images: read at true micrometres per pixel, cut into tiles, encoded into bags, and seen again."""
