"""Memory and time of a checkpoint larger than what may be in memory.

A synthetic model of dense layers is saved by Keras and exported, as a live
model and from its `.weights.h5`, and loaded again. What is printed is the
peak of memory beyond what the process held before, and the processor time,
each measured in a child of its own.

    python -m benchmarks.large_files --layers 16 --mib 16
"""

import argparse
import subprocess
import sys
import tempfile
import textwrap

SETUP = textwrap.dedent(
    """
    import os, sys, time
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    folder, layers, mib, jobs = sys.argv[1], *map(int, sys.argv[2:5])

    def status(field):
        with open("/proc/self/status") as lines:
            found = [line for line in lines if line.startswith(field)]
        return int(found[0].split()[1]) / 1024

    def build(layers):
        import keras
        keras.utils.set_random_seed(0)
        width = int((mib * 2**18) ** 0.5)
        dense = [keras.layers.Dense(width) for _ in range(layers)]
        return keras.Sequential([keras.Input((width,)), *dense])

    def executor():
        from concurrent.futures import ThreadPoolExecutor
        return ThreadPoolExecutor(jobs) if jobs > 1 else None
    """
)
MEASURE = textwrap.dedent(
    """
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, start = status("VmRSS"), time.process_time()
    task()
    print(status("VmHWM") - before, time.process_time() - start)
    """
)
TASKS = {
    "keras save_weights": """
        model = build(layers)
        task = lambda: model.save_weights(folder + "/m.weights.h5")
    """,
    "ks.export, live model": """
        import keras_squeeze as ks
        model = build(layers)
        ks.export(build(1), folder + "/warm.h5", profile="fast")
        task = lambda: ks.export(model, folder + "/m.h5", profile="fast",
                                 executor=executor())
    """,
    "ks.export, from .weights.h5": """
        from keras_squeeze.bridges.exporting import export_file
        task = lambda: export_file(folder + "/m.weights.h5", folder + "/w.h5",
                                   profile="fast", executor=executor())
    """,
    "keras load_weights": """
        model = build(layers)
        task = lambda: model.load_weights(folder + "/m.weights.h5")
    """,
    "ks.load_weights": """
        import keras_squeeze as ks
        model = build(layers)
        task = lambda: ks.load_weights(model, folder + "/m.h5")
    """,
    "ks.load_model": """
        import keras_squeeze as ks
        build(1)
        task = lambda: ks.load_model(folder + "/m.h5")
    """,
}


def measure(folder, options, task):
    code = SETUP + textwrap.dedent(task) + MEASURE
    arguments = [folder, options.layers, options.mib, options.jobs]
    child = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return map(float, child.stdout.split()[-2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--mib", type=int, default=16, help="of one kernel")
    parser.add_argument("--jobs", type=int, default=1, help="threads")
    options = parser.parse_args()
    total = options.layers * options.mib
    print(f"{options.layers} kernels of {options.mib} MiB, {total} MiB in all")
    print("| what | peak beyond before, MiB | processor time, s |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, task in TASKS.items():
            peak, seconds = measure(folder, options, task)
            print(f"| {name} | {peak:.0f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
