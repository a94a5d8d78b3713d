"""Attention in windows, stripes, blocks and halos of the grid."""
