"""Oversight: what an answer claims, held against its evidence."""
