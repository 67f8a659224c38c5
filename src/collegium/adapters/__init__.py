"""Every vendor name lives here: one package or module per way to implement a port."""
