"""Actions in RGB clips: a frame encoder, a space-time mixer of the attention core, and a pool over time."""
