"""Import what stages import; the server of `pipeline.executor.stage_process` does so before it forks."""

from __future__ import annotations

import atexit
import gc
import os
import pkgutil
from importlib import import_module

import pipeline.generators
import pipeline.methods
import stages
from features.runtime.lazy_open_clip import import_open_clip

# Libraries that stages import late, because not all of them need them.
LIBRARIES = ("torch._dynamo", "h5py", "pyarrow.parquet", "safetensors.torch", "sklearn.linear_model", "zarr")

for package in (pipeline.generators, pipeline.methods, stages):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
import_open_clip()
for library in LIBRARIES:
    import_module(library)

# A collection in a fork would write to, and so copy, the pages of all these modules.
gc.freeze()

# The server has nothing to clean up, and some of these libraries print what they did not clean up either.
atexit.register(os._exit, 0)
