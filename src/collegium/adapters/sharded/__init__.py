"""Runs in several stores: each in the shard that its id names."""
