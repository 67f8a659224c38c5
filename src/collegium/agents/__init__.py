"""What one agent is and does: who there is, what it is shown, how it works on a task."""
