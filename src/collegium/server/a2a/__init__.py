"""A2A: the team as an agent that other programs' agents talk to. Needs the extra ``protocols``."""
