"""Bridges to other tools; each module imports its tool when it is called."""
