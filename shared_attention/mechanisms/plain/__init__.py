"""Attention among all tokens, in full and in the forms that every other mechanism is measured against."""
