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
    import signal, sys, time
    # A shell lets what it runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from keras_squeeze.artifact import coding, packing
    from keras_squeeze.cli import main

    def never_done(file=None, *args):
        if sys.argv[4] == "writing":
            file.write(b"half of the new file")
            file.flush()
        print(sys.argv[4], flush=True)
        time.sleep(60)

    if sys.argv[4] == "coding":
        coding.encode_tensor = never_done
    else:
        packing.write_pieces = never_done
    sys.exit(main(["export", sys.argv[1], sys.argv[2], "--jobs", sys.argv[3]]))
    """
)


@pytest.mark.parametrize("stage", ["coding", "writing"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_cleans_up(tmp_path, number, code, stage):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/a/vars/0"] = np.ones(3)
    (tmp_path / "out.h5").write_bytes(b"the old file")
    arguments = [str(tmp_path / "m.weights.h5"), str(tmp_path / "out.h5")]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments, "1", stage],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline().decode() == f"{stage}\n"
    # The folder of the new file is there when the signal comes.
    assert len(list(tmp_path.iterdir())) == 2 + (stage == "writing")
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == code, errors
    assert (tmp_path / "out.h5").read_bytes() == b"the old file"
    assert {path.name for path in tmp_path.iterdir()} == {
        "m.weights.h5",
        "out.h5",
    }
