"""Lockstep: keeps every resized image in step with its original."""

__version__ = "0.1.0"
