"""Batch inference: from inputs and a model folder to whole results and a ledger of what became of every item."""
