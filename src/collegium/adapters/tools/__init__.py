"""What tools need of the outside: the runs' work folders."""
