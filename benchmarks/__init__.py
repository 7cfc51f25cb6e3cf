"""Benchmarks: each is a command that measures dense and SFI side by side and can write JSON."""
