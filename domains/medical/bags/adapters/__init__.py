"""Published multiple-instance networks in ours, one module for each source."""
