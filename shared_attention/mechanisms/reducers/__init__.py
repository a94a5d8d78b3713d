"""Fewer tokens out of many."""
