"""Adapters for models and data, and the only place that opens model files."""
