"""What all tests share: quiet TensorFlow, small models, the data folder."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from keras_squeeze.native import LIBRARY_PATH, building

ROOT = Path(__file__).resolve().parent.parent


def compile_kernels():
    """Where the tests import the source folder, its kernels must be new."""
    sources = (LIBRARY_PATH.parent / "source").glob("*")
    newest = max(path.stat().st_mtime for path in sources)
    if not LIBRARY_PATH.exists() or LIBRARY_PATH.stat().st_mtime < newest:
        building.build(LIBRARY_PATH)


# Worker processes of one run find the kernels that the first one compiled.
_is_worker = "PYTEST_XDIST_WORKER" in os.environ
if os.environ.get("KERAS_SQUEEZE_NATIVE", "1") == "1" and not _is_worker:
    compile_kernels()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_folder():
    folder = Path(
        os.environ.get("KERAS_SQUEEZE_DATA", ROOT.parent / "shared" / "data")
    )
    if not (folder / "MODELS.json").exists():
        pytest.skip(f"no data folder at {folder}")
    return folder
