"""A whole team in one seeded world: virtual time, hosts that die, stores and messages that misbehave."""
