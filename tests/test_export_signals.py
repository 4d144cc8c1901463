"""SIGINT and SIGTERM in the middle: nothing stays, the code is the shell's."""

import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

CHILD = textwrap.dedent(
    """
    import sys, time
    from keras_squeeze.artifact import coding
    from keras_squeeze.cli import main

    def never_done(*args):
        print("coding", flush=True)
        time.sleep(60)

    coding.encode_tensor = never_done
    sys.exit(main(["export", sys.argv[1], sys.argv[2], "--jobs", sys.argv[3]]))
    """
)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_cleans_up(tmp_path, number, code):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/a/vars/0"] = np.ones(3)
    (tmp_path / "out.h5").write_bytes(b"the old file")
    arguments = [str(tmp_path / "m.weights.h5"), str(tmp_path / "out.h5"), "1"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"coding\n"
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == code, errors
    assert (tmp_path / "out.h5").read_bytes() == b"the old file"
    assert {path.name for path in tmp_path.iterdir()} == {
        "m.weights.h5",
        "out.h5",
    }
