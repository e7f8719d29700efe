"""The embedded example: a loan table with known faults, two models, one command. Nothing is downloaded."""
