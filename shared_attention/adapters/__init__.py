"""How the modules of published code map onto ours: one file a mechanism, under its registered name."""
