"""AG-UI: runs as streams of events for chat front ends. Needs the extra ``protocols``."""
