"""Reserved for the reid domain."""
