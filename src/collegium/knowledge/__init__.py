"""Knowledge: files to chunks, chunks to passages, passages to quotes."""
