"""The version of the package, which cards and manifests name, and the versions of the libraries it stands on."""

import importlib.metadata
import platform

__version__ = "0.4.0"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that training depends on, by name."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}
