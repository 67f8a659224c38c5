"""Numbered SQL files: each makes the tables of one version out of those of the version before, and only adds."""
