"""Pictures with an identity: read from benchmark layouts, folders and tables into one kind of record."""
