"""Stores in SQLite files: one for journals, records and blobs, one for the bus, one for the cache."""
