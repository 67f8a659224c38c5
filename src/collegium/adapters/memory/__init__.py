"""Stores without files: for tests, and for runs that nobody needs tomorrow."""
