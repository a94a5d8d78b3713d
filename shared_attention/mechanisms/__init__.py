"""One file a mechanism, in a folder for each family; the file bears the mechanism's registered name."""
