"""Networks that give a bag of instances its class, one file for each."""
