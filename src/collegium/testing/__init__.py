"""For tests of collegium and of what is built on it: fakes with the real parts' manners, and a suite per port."""
