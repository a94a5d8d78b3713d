"""Reserved for the video domain."""
