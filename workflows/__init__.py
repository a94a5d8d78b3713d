"""The front door: the command line and the catalogue of workflows."""
