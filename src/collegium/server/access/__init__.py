"""What a principal may see and do. Every face goes through here: the one place where scope and tenant are applied."""
