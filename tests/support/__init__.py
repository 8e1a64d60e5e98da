"""What the Python suites share: finding the server's binary, running it, ending it."""

from .server import Server, binary, free_port

__all__ = ["Server", "binary", "free_port"]
