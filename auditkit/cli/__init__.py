"""The command line: one file a command; every import that costs is inside a function."""
