"""The words of collegium: frozen, typed nouns without any I/O."""
