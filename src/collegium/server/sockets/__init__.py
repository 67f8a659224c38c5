"""Sockets: one connection over which topics are looked at and commands given."""
