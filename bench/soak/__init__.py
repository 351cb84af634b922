"""A shop at a steady load for half an hour: what it holds must not grow."""
