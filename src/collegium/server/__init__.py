"""HTTP faces of collegium."""
