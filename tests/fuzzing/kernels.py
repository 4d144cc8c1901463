"""Fuzzes the kernels themselves, with libFuzzer or without.

    python -m tests.fuzzing.kernels [--seconds N] [--seed N] [--keep]

`fuzz_decoders.c` is a libFuzzer target: for clang's, or where there is no clang
for the one that the package `atheris` brings, to which `libfuzzer_bridge.c`
tells the edges that gcc sees. Without either, `driver.c` mutates the inputs by
these edges. All run under the address and undefined sanitizers. `--keep` adds
to the corpus what took new edges; libFuzzer leaves out what others make
needless. Where the compiler has no sanitizers, it says so and succeeds.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from keras_squeeze.codecs import context_mixing_model as models
from keras_squeeze.codecs import context_mixing_tables as tables
from keras_squeeze.codecs.context_mixing_model import Model
from keras_squeeze.native import LIBRARY_PATH
from tests.fuzzing.entries import read_corpus, write_corpus
from tests.native_sanitizer import runtime

FOLDER = pathlib.Path(__file__).parent
CORPUS = FOLDER / "corpus" / "kernels.bin"
SOURCE = LIBRARY_PATH.parent / "source"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c11", "-g", "-fno-strict-aliasing", f"-I{SOURCE}")
# From here on what runs faster makes up for what takes longer to compile.
LONG_SECONDS = 240
# Few buckets: what a model starts with takes longer than what is decoded.
MODELS = (
    Model(2, 40, models.RAW_SIGNS),
    Model(5, 44, models.CONTEXT_SIGNS, shift=3),
    Model(9, 50, models.FILTERED_SIGNS, hole=3),
    Model(7, 46, models.PREDICTED_SIGNS),
    Model(10, 46, models.PREDICTED_SIGNS, top=12),
    Model(5, 42, models.CONTEXT_SIGNS, states=8),
    Model(4, 42, models.PREDICTED_SIGNS, states=4),
)


def models_header():
    """What the C code must know of context mixing's tables and models."""
    text = ["/* Written by tests/fuzzing/kernels.py. */"]
    common = {
        "squash": tables.squash(),
        "stretch": tables.stretch(),
        "rates": tables.rates(),
        "logarithms": tables.logarithms(),
    }
    text += [c_array(name, array) for name, array in common.items()]
    jobs = [model_fields(i, model, text) for i, model in enumerate(MODELS)]
    shared = ", ".join(f".{name} = {name}" for name in common)
    rows = ",\n".join(f"    {{{shared}, {job}}}" for job in jobs)
    text.append(f"enum {{ MODEL_COUNT = {len(jobs)} }};")
    text.append(
        f"static const ks_context_mixing_job MODELS[] = {{\n{rows}}};\n"
    )
    text.append(SLOTS)
    return "\n".join(text)


# As `Model.context_sizes` has it.
SLOTS = """
static int64_t model_slots(const ks_context_mixing_job *job) {
  int64_t classes = job->classes, places = job->taps * job->inputs;
  int predicted = job->sign_mode == 3;
  int64_t contexts = classes + 256 + (predicted ? 512 : classes) +
                     (job->taps > 1 ? 768 : 256) + 16 * ((classes + 1) / 2) +
                     (predicted ? 12 : 8) * classes + 1 +
                     (places < PLACES ? places : PLACES);
  return contexts * job->nodes + classes * job->buckets + SIGN_SLOTS;
}
"""


def model_fields(index, model, text):
    priors = model.priors
    sets = models.mixer_sets(model.buckets, bool(model.states))
    arrays = {
        "prior_nodes": priors.nodes,
        "prior_halves": priors.halves,
        "starts": priors.starts,
        "sets": sets,
    }
    if model.next_states is not None:
        arrays["next_states"] = model.next_states
    text += [c_array(f"{name}_{index}", a) for name, a in arrays.items()]
    numbers = {
        "mean": model.mean,
        "mean_class": model.mean_class,
        "buckets": model.buckets,
        "classes": model.classes,
        "nodes": priors.nodes.shape[1],
        "hole": model.hole,
        "sign_mode": model.sign_mode,
        "top": model.top,
    }
    named = [f".{name} = {name}_{index}" for name in arrays]
    return ", ".join([*named, *(f".{n} = {v}" for n, v in numbers.items())])


def c_array(name, array):
    dtype = array.dtype.name
    numbers = ",".join(map(str, np.ravel(array).tolist()))
    return f"static const {dtype}_t {name}[] = {{{numbers}}};"


def build(folder, optimization="-O0"):
    """The command of a fuzzer that was compiled, or `None`."""
    (folder / "models.h").write_text(models_header())
    target = folder / "fuzzer"
    sources = [*sorted(map(str, SOURCE.glob("*.c")))]
    common = [*FLAGS, optimization, *SANITIZERS, f"-I{folder}"]
    common += ["-o", str(target)]
    common += [*sources, str(FOLDER / "fuzz_decoders.c")]
    if shutil.which("clang") and compiled(
        ["clang", "-fsanitize=fuzzer", *common]
    ):
        return [str(target)]
    archive = libfuzzer_archive()
    gcc = ["gcc", "-fsanitize-coverage=trace-pc", *common]
    bridge = str(FOLDER / "libfuzzer_bridge.c")
    # The archive has a `__sanitizer_cov_trace_pc` too, which only complains.
    libraries = ["-Wl,--allow-multiple-definition", "-lstdc++", "-lm"]
    if not runtime():
        return None
    if archive and compiled([*gcc, bridge, archive, *libraries]):
        return [str(target)]
    ours = [str(FOLDER / name) for name in ("driver.c", "coverage.c")]
    if compiled([*gcc, *ours]):
        return [str(target), "driver"]
    return None


def libfuzzer_archive():
    """The libFuzzer that atheris brings, if it is installed."""
    for folder in sys.path:
        path = pathlib.Path(folder) / "libclang_rt.fuzzer_no_main.a"
        if path.exists():
            return str(path)
    return None


def compiled(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return done.returncode == 0


def arguments(command, inputs, seconds, seed):
    if command[1:] == ["driver"]:
        return [command[0], str(inputs), str(seconds), str(seed)]
    limits = [f"-max_total_time={seconds}", f"-seed={seed + 1}"]
    crash = f"-artifact_prefix={inputs}/crash-"
    limits += ["-max_len=2048", "-print_final_stats=1"]
    return [*command, str(inputs), *limits, crash]


def useful(command, inputs):
    """Inputs that together take all edges that these take."""
    if command[1:] != ["driver"]:
        smallest = inputs.parent / "smallest"
        smallest.mkdir()
        merge = [*command, "-merge=1", str(smallest), str(inputs)]
        subprocess.run(merge, check=True, capture_output=True)
        inputs = smallest
    found = [path.read_bytes() for path in inputs.iterdir()]
    return sorted(found, key=lambda item: (len(item), item))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        long = args.seconds >= LONG_SECONDS
        command = build(folder, "-O1" if long else "-O0")
        if command is None:
            print("skipped: no compiler with sanitizers and edge coverage")
            return 0
        inputs = folder / "inputs"
        inputs.mkdir()
        known = read_corpus(CORPUS) if CORPUS.exists() else []
        for i, item in enumerate(known):
            (inputs / f"known-{i}").write_bytes(item)
        code = subprocess.run(
            arguments(command, inputs, args.seconds, args.seed), check=False
        ).returncode
        if code:
            for crash in inputs.glob("crash*"):
                print(f"input: {crash.read_bytes().hex()}", file=sys.stderr)
        elif args.keep:
            write_corpus(useful(command, inputs), CORPUS)
        return code


if __name__ == "__main__":
    sys.exit(main())
