"""Peak memory of coding one tensor, in multiples of the tensor.

A child process for each row makes the tensor, looks at what memory it holds,
does one thing and looks again at the most that it held meanwhile, compiled
kernels included. What is promised is four times the tensor and 64 MiB.

    python -m benchmarks.peak_memory --mib 64 256
    python -m benchmarks.peak_memory --exports --mib 64
"""

import argparse
import subprocess
import sys
import tempfile
import textwrap

SETUP = textwrap.dedent(
    """
    import os, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import numpy as np

    def status(field):
        with open("/proc/self/status") as lines:
            found = [line for line in lines if line.startswith(field)]
        return int(found[0].split()[1]) / 1024

    def over(task):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        found = task()
        print(status("VmHWM") - before)
        return found

    def normal(mib, itemsize, seed=0):
        "As many normal numbers as a tensor has, columns of unequal scale."
        rng = np.random.default_rng(seed)
        count = int(mib * 2**20 / itemsize)
        columns = 4096 if count % 4096 == 0 else 64
        out = np.empty((count // columns, columns), "float32")
        scale = np.exp(0.3 * rng.standard_normal(columns, "float32"))
        for start in range(0, len(out), 256):
            part = out[start : start + 256]
            part[...] = rng.standard_normal(part.shape, "float32")
            part *= scale * np.float32(0.05)
        return out

    def integers(mib, dtype, bits):
        itemsize = np.dtype(dtype).itemsize
        values = normal(mib, itemsize)
        top = 2 ** (bits - 1) - 1
        out = np.empty(values.shape, dtype)
        for start in range(0, len(out), 256):
            part = np.rint(values[start : start + 256] * (top / 0.25))
            out[start : start + 256] = np.clip(part, -top, top)
        return out

    def sparse(array, share):
        rng = np.random.default_rng(1)
        for start in range(0, len(array), 256):
            part = array[start : start + 256]
            part[rng.random(part.shape) < share] = 0
        return array

    def make(name, mib):
        if name == "float32":
            return normal(mib, 4)
        if name == "float32, 90 % zeros":
            return sparse(normal(mib, 4), 0.9)
        if name == "float32 of 8 bits":
            # As weights that were quantized and stored as floats again.
            return integers(mib, "float32", 8) * np.float32(0.01)
        if name == "bfloat16":
            import ml_dtypes
            values = normal(mib, 2)
            out = np.empty(values.shape, ml_dtypes.bfloat16)
            for start in range(0, len(out), 256):
                out[start : start + 256] = values[start : start + 256]
            return out
        dtype, bits = name.split(" of ")
        bits = bits.split()
        found = integers(mib, dtype, int(bits[0]))
        return sparse(found, 0.9) if "zeros" in bits else found
    """
)

CODEC = textwrap.dedent(
    """
    from keras_squeeze import codecs
    from keras_squeeze.codecs import profiles
    which, name, mib = sys.argv[1], sys.argv[2], float(sys.argv[3])
    small = make(name, 0.5)
    array = make(name, mib)
    if which == "profile fast":
        encode = lambda a: codecs.encode_smallest(a)
    else:
        codec = codecs.get(which)
        if not codec.supports(array):
            sys.exit()
        encode = lambda a: (codec, codec.encode(a))
    chosen, data = encode(small)
    chosen.decode(data, small.shape, small.dtype)
    chosen, data = over(lambda: encode(array))
    shape, dtype = array.shape, array.dtype
    del array
    over(lambda: chosen.decode(data, shape, dtype))
    """
)

FLOATS = ("float32", "float32, 90 % zeros", "float32 of 8 bits", "bfloat16")
CODES = ("int8 of 8", "int8 of 4", "int8 of 4 zeros", "int16 of 16")
ALL = (*FLOATS, *CODES)
CODECS = {
    "profile fast": ALL,
    "float_fields": FLOATS,
    "class_rans": CODES,
    "byte_planes": FLOATS,
    "sparse": ("float32, 90 % zeros", "int8 of 4 zeros"),
    "bitpack": CODES,
    "rans": CODES,
    "huffman": CODES,
    "lzw": CODES,
    "deflate": ("float32", "int8 of 4"),
    "raw": ("float32", "int8 of 8"),
    "zstd": ("float32", "int8 of 4"),
    "context_mixing": CODES,
}

EXPORT = textwrap.dedent(
    """
    import keras
    import keras_squeeze as ks
    name, folder, mib = sys.argv[1], sys.argv[2], float(sys.argv[3])
    options = eval(sys.argv[4])

    def build(kernel):
        model = keras.Sequential([
            keras.Input((kernel.shape[0],)),
            keras.layers.Dense(kernel.shape[1], use_bias=False),
        ])
        model.layers[0].kernel.assign(kernel)
        return model

    path = folder + "/m.h5"
    small, model = build(normal(0.5, 4)), build(normal(mib, 4))
    ks.export(small, path, **options)
    ks.load_model(path)
    over(lambda: ks.export(model, path, **options))
    del model
    def load():
        with ks.artifact.read(path) as opened:
            for record, array in opened.iterate():
                del array
    over(load)
    """
)
FILE = textwrap.dedent(
    """
    import h5py
    from keras_squeeze import artifact
    from keras_squeeze.bridges.exporting import export_file
    name, folder, mib = sys.argv[1], sys.argv[2], float(sys.argv[3])
    options = eval(sys.argv[4])
    for size in (0.5, mib):
        with h5py.File(f"{folder}/{size}.weights.h5", "w") as file:
            group = file.create_group("layers/dense/vars")
            group["0"] = normal(size, 4)
    path = folder + "/m.h5"
    export_file(f"{folder}/0.5.weights.h5", path, **options)
    def load():
        with artifact.read(path) as opened:
            for record, array in opened.iterate():
                del array
    load()
    over(lambda: export_file(f"{folder}/{mib}.weights.h5", path, **options))
    over(load)
    """
)
EXPORTS = {
    "lossless, auto": "{}",
    "lossless, fast": "{'profile': 'fast'}",
    "bits=8, auto": "{'bits': 8}",
    "bits=4, auto": "{'bits': 4}",
    "bits=4, fast": "{'bits': 4, 'profile': 'fast'}",
    "bits=4, mse": "{'quantizer': 'mse', 'bits': 4}",
    "snr_db=20, fast": "{'snr_db': 20.0, 'profile': 'fast'}",
    "quality=50": "{'quality': 50}",
    "max_bytes, fast": "{'max_bytes': int(mib * 2**17), 'profile': 'fast'}",
}


def peaks(code, *arguments):
    child = subprocess.run(
        [sys.executable, "-c", SETUP + code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise SystemExit(child.stderr)
    found = [float(line) for line in child.stdout.split()]
    return found or None


def show(what, mib, found):
    # 64 MiB are no part of the multiple that is promised.
    cells = [f"{peak:.0f} | {peak / mib:.2f}" for peak in found]
    broken = any(peak > 4 * mib + 64 for peak in found)
    print(f"| {what} | {mib:g} | {' | '.join(cells)} | {'!' * broken} |")
    sys.stdout.flush()


def heading():
    print(
        "| what | tensor, MiB | encode, MiB | times | decode, MiB | times | |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")


def show_codecs(options):
    for mib in options.mib:
        for codec, kinds in CODECS.items():
            if options.only and codec not in options.only:
                continue
            size = min(mib, 8) if codec == "context_mixing" else mib
            for kind in kinds:
                found = peaks(CODEC, codec, kind, size)
                if found:
                    show(f"{codec}, {kind}", size, found)


def show_exports(options):
    for mib in options.mib:
        for name, arguments in EXPORTS.items():
            if options.only and name not in options.only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = peaks(EXPORT, name, folder, mib, arguments)
            show(f"export, {name}", mib, found)
        for name in ("lossless, auto", "lossless, fast"):
            if options.only and name not in options.only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = peaks(FILE, name, folder, mib, EXPORTS[name])
            show(f"export of a weights file, {name}", mib, found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=float, nargs="+", default=[64])
    parser.add_argument("--exports", action="store_true", help="whole files")
    parser.add_argument("--only", nargs="+", help="codecs or rows")
    options = parser.parse_args()
    heading()
    (show_exports if options.exports else show_codecs)(options)


if __name__ == "__main__":
    main()
