"""Benchmarks: each is a module that runs by itself against real servers, and says what it measured."""
