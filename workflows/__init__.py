"""The shop's processes, one file each."""
