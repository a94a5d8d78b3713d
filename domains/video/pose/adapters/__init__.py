"""Published pose networks and losses, held against ours by `pulvinar attention verify`."""
