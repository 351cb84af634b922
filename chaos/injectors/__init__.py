"""What does the harm: one function for each kind of fault, which also sees to it that the fault ends."""

__all__: list[str] = []
