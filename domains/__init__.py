"""What is peculiar to a kind of data. Domains never import one another."""
