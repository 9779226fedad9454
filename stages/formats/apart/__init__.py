"""Run third-party software on models in a child process (docs/design/child-process.md)."""
