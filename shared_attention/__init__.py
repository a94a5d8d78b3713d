"""Tensors in, tensors out: published attention mechanisms on one, two and three axes."""
