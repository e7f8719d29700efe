"""The analyzers: one file, one frozen descriptor and a short run function."""
