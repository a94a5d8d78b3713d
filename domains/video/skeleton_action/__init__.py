"""Actions from skeletons."""
