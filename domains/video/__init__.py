"""Videos and skeletons: frames with their times, and what people do in them."""
