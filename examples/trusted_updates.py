"""A signed model, and an update of it that holds only what changed.

    python examples/trusted_updates.py [FOLDER]

needs `pip install '.[sign]'`. The update is encrypted as well: who has the
first file, the public key and the passphrase gets the new model.
"""

import os
import sys
import tempfile

import keras
import numpy as np

import keras_squeeze as ks

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
os.chdir(folder)

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 64)).astype("float32")
y = (x[:, :10] + 0.1 * rng.normal(size=(1024, 10))).argmax(axis=1)
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(256, activation="relu", name="body"),
        keras.layers.Dense(10, activation="softmax", name="head"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, epochs=3, verbose=0)

# The publisher: a pair of keys once, a signature for every file.
ks.artifact.generate_keys("private.pem", "public.pem")
ks.export(model, "v1.h5")
ks.sign("v1.h5", "private.pem")

# A new head on the same body; the update holds the head alone.
model.get_layer("body").trainable = False
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, epochs=1, verbose=0)
ks.export(model, "v2.h5.enc", base="v1.h5", encryption_key="open sesame")
ks.sign("v2.h5.enc", "private.pem")
print(ks.diff("v1.h5", "v2.h5.enc", key="open sesame"))

# The user: checked before anything is parsed, then decrypted and joined.
first = ks.load_model("v1.h5", public_key="public.pem")
second = ks.load_model(
    "v2.h5.enc", public_key="public.pem", key="open sesame", base="v1.h5"
)
print("equal:", all(map(np.array_equal, second.weights, model.weights)))
for name in ("v1.h5", "v2.h5.enc"):
    print(f"{name}: {os.path.getsize(name):,} bytes")
