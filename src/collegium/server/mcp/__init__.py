"""MCP: collegium as a server of tools for other programs' agents. Needs the extra ``protocols``."""
