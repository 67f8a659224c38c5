"""Extraction: files to text with offsets, one module per format."""
