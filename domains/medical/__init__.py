"""Scans: read, prepared, segmented, judged and written back in their own geometry."""
