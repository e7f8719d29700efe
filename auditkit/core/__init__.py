"""Records and rules: numpy and pydantic only."""
