"""The merge methods of this package, one file each: every module here is imported, and registers what it defines."""

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
