"""What the shop can be seen doing."""
