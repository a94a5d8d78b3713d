"""Attention to few: routed, sampled, pooled and approximated keys."""
