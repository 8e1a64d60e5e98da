"""Kills a real server at random moments under load; see test_kill.py."""
