"""The version, in one place: read by setuptools without importing anything."""

__version__ = "0.1.0"
