"""The shop's facts and rules: one file an aggregate, pure."""
