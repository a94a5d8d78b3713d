"""Bags of instances (multiple-instance learning): a label for the whole, learned from its parts."""
