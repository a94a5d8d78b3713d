"""Softmax attention approximated at a cost that grows with the tokens, not with their square."""
