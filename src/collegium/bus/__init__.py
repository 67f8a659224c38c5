"""What is done with messages, on any bus: questions and answers, following a topic, consuming one."""
