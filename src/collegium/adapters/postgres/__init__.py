"""Adapters over PostgreSQL; file names mirror those of ``adapters/sqlite``."""
