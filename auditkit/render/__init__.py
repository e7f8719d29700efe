"""Everything that is shown: pure functions of evidence and verdict."""
