"""Tools: define, version, find, grant and call one; the ledger of what calls did; the built-in ones."""
