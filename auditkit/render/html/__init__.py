"""The model card: one self-contained HTML page."""
