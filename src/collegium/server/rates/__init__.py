"""Rate limits of the faces: who may ask how often, and what is said to those who ask more."""
