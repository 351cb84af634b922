"""The shop's doors to the world."""
