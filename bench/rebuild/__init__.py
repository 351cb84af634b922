"""Rebuilds every read model of the shop from a long log, under writes and reads, and compares it with a slow replay."""
