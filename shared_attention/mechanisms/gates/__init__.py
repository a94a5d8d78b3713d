"""Gates that weigh channels, places and recordings."""
