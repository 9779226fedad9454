"""Implement commands that need stages: each module has a `command` for the entry-point group `secateur.commands`."""
