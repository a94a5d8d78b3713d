"""Published survival networks and losses in ours, one module for each source."""
