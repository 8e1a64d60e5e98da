"""The stock `temporal` CLI: a script of its commands, and what they printed when they were run against Temporal's own server."""
