"""What tests of collegium, and of what is built on it, may use: fakes with the real parts' manners, and suites per port."""
