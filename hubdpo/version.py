"""The version of the package, which cards and manifests name."""

__version__ = "0.2.0"
