"""Using embeddings: files of them, a gallery that can be searched and deleted, pictures of ranked lists."""
