"""What is stored is encrypted: envelopes, data keys, and the keys that encrypt those."""
