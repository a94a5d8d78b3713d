"""Skeletons over time: sets of joints, one layout on disk, and readers of the formats others use."""
