"""How keypoints are judged: pure functions of arrays."""
