"""The commands of `pulvinar`, a module for each theme."""
