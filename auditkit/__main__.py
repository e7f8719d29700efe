"""``python -m auditkit``."""

from auditkit.cli.main import script

if __name__ == "__main__":
    script()
