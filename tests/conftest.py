"""What all tests share: quiet TensorFlow, small models, the data folder."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


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
