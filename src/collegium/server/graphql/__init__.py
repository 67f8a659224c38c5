"""GraphQL: what REST gives, asked for in one go, and told while it happens."""
