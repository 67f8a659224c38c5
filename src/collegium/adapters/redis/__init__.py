"""Adapters for Redis: bus, cache, shared rates and the cards of workers."""
