"""An artifact as a TensorFlow SavedModel, for TensorFlow Serving and others.

The SavedModel is read back by TensorFlow alone: the process that serves needs
neither keras_squeeze nor Keras.

Run: python examples/serve_savedmodel.py MODEL.h5 FOLDER
"""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_squeeze as ks

SERVER = """
import sys
import numpy as np
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1])
x = tf.constant(np.load(sys.argv[2]))
np.save(sys.argv[3], served.serve(x).numpy())
assert "keras_squeeze" not in sys.modules
"""


def main(path, folder):
    model = ks.load_model(path)
    model.export(folder, verbose=False)

    shape = (4, *model.input_shape[1:])
    x = np.random.default_rng(0).random(shape, dtype="float32")
    inputs = os.path.join(folder, "inputs.npy")
    outputs = os.path.join(folder, "outputs.npy")
    np.save(inputs, x)
    command = [sys.executable, "-c", SERVER, folder, inputs, outputs]
    subprocess.run(command, check=True)

    difference = np.abs(np.load(outputs) - model.predict(x, verbose=0)).max()
    print(f"{path} -> {folder}, largest difference {difference:.2g}")
    if difference > 1e-5:
        sys.exit("the SavedModel does not answer like the artifact")


if __name__ == "__main__":
    main(*sys.argv[1:])
