"""Authentication: keys, tokens of an identity provider, sessions of the console, tickets for sockets."""
