"""What each part of `context_mixing` brings: sizes with that part left out.

    python benchmarks/codec_ablation.py MODELS --cases i8c i4c p80k5

Every row is a build of the kernel with the part removed. What is left still
adapts, so the rows do not add up: contexts stand in for each other.
"""

from __future__ import annotations

import argparse
import pathlib

import codec_variants
import numpy as np
from codec_sets import CASES, find_models, quantize
from codec_variants import Patch

from keras_squeeze import codecs

_C, _SCAN = "context_mixing.c", "context_mixing_scan.h"
_LOAD = "&s->first_slot, &mixture, decoding);"
_ENTRY = "int64_t ks_context_mixing(ks_context_mixing_job *job) {"
_LEARN = "weights[i] = clip(weights[i] + step"
_START = "job->weights[i] = 2097152 / CONTEXTS;"
_CONTEXTS = (
    "scale expected from channel and input",
    "channel mean and input mean, apart",
    "prediction and its errors, or mean of the weights just decoded",
    "neighbouring taps, or previous channel",
    "this filter so far, or two weights before",
    "size of the predicted value",
    "none (the question alone)",
    "place within the channel",
)


def _without_context(index: int) -> tuple[Patch, ...]:
    return ((_SCAN, _LOAD, f"{_LOAD}\n  mixture.input[{index}] = 0;"),)


_NO_LEARNING = (_C, _LEARN, "weights[i] = clip(weights[i] + 0 * step")
_PRIOR = "*slots++ = prior[node] | prior_age(job, context);"

VARIANTS: dict[str, tuple[Patch, ...]] = {
    "priors": ((_C, _PRIOR, "*slots++ = UINT32_C(1) << 31;"),),
    "start at the expected magnitude": (
        (_SCAN, "int32_t at = s->job.starts", "int32_t at = 0 * s->job.starts"),
    ),
    "learning of the mixer": (_NO_LEARNING,),
    "mixing: the first context alone": (
        _NO_LEARNING,
        (_C, _START, "job->weights[i] = i % CONTEXTS ? 0 : 2097152;"),
    ),
    "principal components": (
        (_C, _ENTRY, f"{_ENTRY}\n  job->sign_mode -= job->sign_mode == 3;"),
    ),
    "all prediction": (
        (_C, _ENTRY, f"{_ENTRY}\n  if (job->sign_mode) job->sign_mode = 1;"),
    ),
    "contexts of signs": ((_C, _ENTRY, f"{_ENTRY}\n  job->sign_mode = 0;"),),
    **{
        f"context: {name}": _without_context(index)
        for index, name in enumerate(_CONTEXTS)
    },
}


def sizes(
    sets: dict[str, list[np.ndarray]], patches: tuple[Patch, ...]
) -> dict[str, int]:
    """Bytes of each set with a part left out."""
    codec = codecs.get("context_mixing")
    with codec_variants.variant((*codec_variants.PORTABLE, *patches)):
        return {
            label: sum(len(codec.encode(array)) for array in arrays)
            for label, arrays in sets.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=["i4c"])
    args = parser.parse_args()
    sets = {
        f"{model} {case}": [quantize(n, w, case) for n, w in kernels.items()]
        for model, kernels in find_models(args.models).items()
        for case in args.cases
    }
    whole = sizes(sets, ())
    print(f"| without |{'|'.join(sets)}|")
    print("|---|" + "---|" * len(sets))
    cells = "|".join(f"{count:,} bytes" for count in whole.values())
    print(f"| nothing |{cells}|")
    for name, patches in VARIANTS.items():
        less = sizes(sets, patches)
        cells = "|".join(f"{less[s] / whole[s] - 1:+.2%}" for s in sets)
        print(f"| {name} |{cells}|", flush=True)


if __name__ == "__main__":
    main()
