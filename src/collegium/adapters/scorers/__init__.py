"""Scorers: how well a premise supports a claim."""
