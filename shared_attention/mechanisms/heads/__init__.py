"""Unusual heads, and attention joined with convolution."""
