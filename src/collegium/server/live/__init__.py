"""What is live: events of runs as they happen, lists as they change, to many who look on at once."""
