"""Pools: all tokens in, a few summaries out."""
