"""The child process in which outside software runs on models (docs/design/child-process.md)."""
