"""The coder's figures: bytes, rate at equal distortion, speed.

    python benchmarks/codec.py sizes MODELS --peer-python PEER/bin/python
    python benchmarks/codec.py distortion MODELS --peer-python PEER/bin/python
    python benchmarks/codec.py speed MODELS --peer-python PEER/bin/python
    python benchmarks/codec.py inefficiency MODELS
    python benchmarks/codec.py instructions MODELS
    python benchmarks/codec.py sparse
    python benchmarks/codec.py floats MODELS --peer-python PEER/bin/python

`MODELS` are .h5 files of Keras, or folders of them. The peers (nncodec,
constriction, pcodec, zstandard) live in an environment of their own; without
`--peer-python` only our figures are printed. Sizes of scales are not counted:
they are the same for all.
"""

from __future__ import annotations

import argparse
import pathlib

import codec_distortion
import codec_floats
import codec_inefficiency
import codec_instructions
import codec_large
import codec_rates
import codec_sparse
import codec_speed
import numpy as np
from codec_sets import CASES, find_models


def sizes(models: dict[str, dict[str, np.ndarray]], args) -> None:
    cases = args.cases or CASES
    found = codec_rates.measure(models, cases, args.peer_python)
    codec_rates.print_bits(found)
    if args.peer_python:
        print()
        for reference in (codec_rates.REFERENCE, codec_rates.ONE_ORDER):
            codec_rates.print_excess(found, reference)
            print()
        codec_rates.print_losses(found)


def distortion(models: dict[str, dict[str, np.ndarray]], args) -> None:
    found = codec_distortion.measure(models, args.snr, args.peer_python)
    codec_distortion.print_table(found)


def speed(models: dict[str, dict[str, np.ndarray]], args) -> None:
    cases = args.cases or codec_speed.CASES
    codec_speed.print_set_speeds(models, cases, args.peer_python)
    print()
    codec_speed.print_scaling(models)
    print()
    codec_large.print_large_speeds()


def inefficiency(models: dict[str, dict[str, np.ndarray]], args) -> None:
    codec_inefficiency.print_table(models, args.cases or CASES)


def instructions(models: dict[str, dict[str, np.ndarray]], args) -> None:
    codec_instructions.print_table(models, args.cases)


def floats(models: dict[str, dict[str, np.ndarray]], args) -> None:
    codec_floats.print_table(models, args.peer_python)


def sparse(models: dict[str, dict[str, np.ndarray]], args) -> None:
    codec_sparse.print_table()


COMMANDS = {
    command.__name__: command
    for command in (
        *(sizes, distortion, speed),
        *(inefficiency, instructions, sparse, floats),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("models", type=pathlib.Path, nargs="*")
    parser.add_argument("--peer-python", help="the peers' interpreter")
    parser.add_argument("--cases", nargs="*", choices=CASES)
    parser.add_argument("--snr", nargs="*", type=float, default=[12, 18, 24])
    args = parser.parse_args()
    COMMANDS[args.command](find_models(args.models), args)


if __name__ == "__main__":
    main()
