"""Published networks of this domain in ours, for `pulvinar attention verify`."""
