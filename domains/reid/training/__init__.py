"""What training sees: changed pictures in balanced batches."""
