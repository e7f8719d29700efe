"""The configuration file: its model, how it is found and read, and the subject it describes."""
