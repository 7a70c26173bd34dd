"""Name and version, in one place: the version is read by setuptools without any import."""

#: What `pip` calls this package.
DISTRIBUTION = "cxr-llava-workbench"
__version__ = "0.1.0"
