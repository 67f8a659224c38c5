"""What the team does: advances runs, routes tasks, works on them, takes over what others left."""
