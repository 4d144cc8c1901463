"""`export`: a live model becomes one compact file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from keras_squeeze import artifact
from keras_squeeze.artifact import Artifact
from keras_squeeze.artifact.code_spool import SpoolFolder
from keras_squeeze.artifact.packing import open_base
from keras_squeeze.artifact.scrubbing import check_keep
from keras_squeeze.artifact.writing import check_target
from keras_squeeze.bridges.exporting import can_export_file, export_file
from keras_squeeze.calibration.gram_matrices import gram_matrices
from keras_squeeze.calibration.validation import Validate, evaluate
from keras_squeeze.codecs.profiles import check_profile
from keras_squeeze.errors import SqueezeError
from keras_squeeze.report import Report
from keras_squeeze.saving.allocating import Target, allocate_kernels
from keras_squeeze.saving.draft import Draft, fit
from keras_squeeze.saving.keras_files import load_keras_file
from keras_squeeze.saving.lazy_kernels import LazyKernels
from keras_squeeze.saving.loading import load_model
from keras_squeeze.surgery.kernel_quantization import encode_kernels
from keras_squeeze.surgery.layer_tree import Filters, walk_layers


def export(
    model: Any,
    path: str | os.PathLike[str],
    bits: int | None = None,
    quantizer: Any = None,
    filters: Filters = None,
    validate: Validate = None,
    overwrite: bool = True,
    executor: Executor | None = None,
    profile: str = "auto",
    snr_db: float | None = None,
    quality: float | None = None,
    max_bytes: int | None = None,
    importance: Mapping[str, np.ndarray] | None = None,
    calibration: Any = None,
    base: str | os.PathLike[str] | Artifact | None = None,
    encryption_key: bytes | str | None = None,
    resume: bool = True,
    keep: Sequence[str] = (),
) -> Report:
    """Writes a model into one compact, verified `.h5`.

    Lossless unless asked: without `bits`, `quantizer`, `snr_db`, `quality`
    and `max_bytes` every variable reloads bit-equal. With one of them, kernels
    are stored as codes and scale and reload as plain floating-point kernels;
    `ks.quantize` makes layers that stay quantized in memory. The model itself
    is never changed, and memory holds one more tensor and what coding it
    needs: with `snr_db`, `quality` and `max_bytes` the codes of all kernels
    wait in a folder beside `path`, if they are many.

    The path of a Keras file may stand for the model: its weights are then
    coded as they are, tensor by tensor, without building the model.

    `bits` gives every channel a uniform grid. The others choose one step a
    kernel and its codes by trellis-coded quantization, which weighs each
    code's error against its bits: fewer bytes at equal distortion.

    Args:
        model: A built `keras.Model`, or the path of a `.keras`,
            `.weights.h5` or `.weights.json` file.
        path: Path that ends in `.h5`, or in `.h5.enc` if it is encrypted.
        bits: Optional integer, 1 to 8 or 16. Quantizes kernels in the file.
        quantizer: Optional identifier or `Quantizer`. Defaults to `None`,
            the default of `ks.quantize` if `bits` is given.
        filters: Optional regex on the kernel's path or callable
            `layer -> bool`: which kernels `bits` concerns. Defaults to all.
        validate: Optional validation data. A pair `(x, y)` or a
            `tf.data.Dataset`, given to `evaluate` of the model and of the
            reloaded file (the model must be compiled), or a callable
            `model -> float or dict`.
        overwrite: Boolean. Whether to replace an existing file. Defaults to
            `True`.
        executor: Optional `concurrent.futures.Executor` to code tensors in
            parallel, of threads, of processes or a Dask client's. The bytes
            written do not depend on it.
        profile: String. Which codecs the file uses: `"fast"` decodes at
            memory-like speed in NumPy alone; `"small"` takes the fewest
            bytes and decodes a few million weights a second; `"auto"` takes
            the small codec where it saves more than 1 %, for up to 4 million
            weights; where no kernels are compiled (`native.available()`) it
            is `"fast"`. Defaults to `"auto"`.
        snr_db: Optional float. Quantizes kernels to this mean
            signal-to-noise ratio of their weights, in decibels: 6 more are
            about one more bit a weight.
        quality: Optional float from 0 to 100: `snr_db = 6 + 0.36 * quality`.
        max_bytes: Optional integer. Quantizes kernels so that the file has
            at most so many bytes.
        importance: Optional mapping of kernel paths to arrays of their shape:
            how much the squared error of each weight matters, for instance
            the diagonal of the Fisher information
            (`ks.calibration.fisher_information`). For `snr_db`, `quality`,
            `max_bytes`, and quantizers that weigh errors (`"mse"`,
            `"kmeans"`, `"entropy_constrained"`). Defaults to that all weights
            of a kernel matter alike.
        calibration: Optional inputs of the model, some hundred samples: an
            array, a list or dictionary of arrays, or a `tf.data.Dataset`. For
            `snr_db`, `quality` and `max_bytes`: codes of dense, recurrent
            and convolutional kernels are then chosen for the least error of
            their layers' outputs, and the ratio is that of the outputs. Not
            together with `importance`.
        base: Optional path of an artifact, or an opened one: an earlier
            version of the model. The file then holds only what changed since,
            and is loaded together with it.
        encryption_key: Optional 32 bytes, or a string, a passphrase. The file
            is encrypted with it and loaded with `key=`; nothing is on the
            disk unencrypted at any moment.
        resume: Boolean. Whether the coded tensors of a large model stay in a
            folder beside `path` when the export is interrupted, and the next
            one to the same path goes on from them. Defaults to `True`.
        keep: Sequence of strings. What stays in the model's config that does
            not belong to the model itself: `"compile_config"`, how it was
            compiled. Defaults to `()`, nothing.

    Returns:
        A `Report` with a row a tensor: shape, dtype, codec, sparsity,
        bits per weight, bytes and share of the file.

    Raises:
        UnbuiltModelError: If the model has no variables yet.
        NoKernelMatchedError: If `filters` leaves no kernel.
        NonFiniteError: If a kernel to quantize holds NaN or infinity.
        SqueezeError: If arguments exclude each other, or `max_bytes` cannot
            be met.
        ArtifactError: If the file cannot be written; an existing file is
            left as it was.

    Example:
    >>> import keras, tempfile, os
    >>> import keras_squeeze as ks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> path = os.path.join(tempfile.mkdtemp(), "m.h5")
    >>> report = ks.export(model, path)
    >>> ks.load_model(path).count_params()
    10
    """
    path = os.fspath(path)
    check_target(path, overwrite, encryption_key is not None)
    check_profile(profile)
    check_keep(keep)
    target = Target(snr_db, quality, max_bytes)
    _check_arguments(bits, quantizer, filters, target, importance, calibration)
    if isinstance(model, str | os.PathLike):
        if can_export_file(model):
            _check_lossless(bits, quantizer, target, validate)
            return export_file(
                model,
                path,
                overwrite=overwrite,
                executor=executor,
                profile=profile,
                base=base,
                encryption_key=encryption_key,
                resume=resume,
                keep=keep,
            )
        model = load_keras_file(model)
    grams = _grams(model, calibration, filters)
    with contextlib.ExitStack() as opened:
        draft = Draft(
            model,
            profile,
            executor,
            encryption_key,
            opened.enter_context(open_base(base)),
            resume,
            keep,
        )
        encrypted = encryption_key is not None
        spools = opened.enter_context(SpoolFolder(path, encrypted))
        figures = _quantize(
            *(draft, bits, quantizer, filters, target, importance, grams),
            spools,
        )
        written = opened.enter_context(draft.write(path, overwrite))
        report = artifact.describe(written)
        totals = {**report.totals, **figures}
        report = dataclasses.replace(report, totals=totals)
        return _with_validation(report, draft, written, validate)


def _quantize(
    draft: Draft,
    bits: int | None,
    quantizer: Any,
    filters: Filters,
    target: Target,
    importance: Mapping[str, np.ndarray] | None,
    grams: dict[str, np.ndarray] | None,
    spools: SpoolFolder,
) -> dict[str, float]:
    """Chooses the draft's codes; tells what was reached."""
    if bits is not None or quantizer is not None:
        draft.quantized = (
            LazyKernels(draft.model, bits, quantizer, filters)
            if importance is None
            else encode_kernels(
                draft.model, bits, quantizer, filters, importance=importance
            )
        )
    elif target.max_bytes is not None:
        return fit(
            *(draft, target.max_bytes, filters, importance, grams),
            store=spools.spool,
        )
    elif target:
        draft.quantized, allocation = allocate_kernels(
            *(draft.model, target, draft.profile, filters, importance, grams),
            store=spools.spool,
        )
        return {"snr_db": allocation.snr_db}
    return {}


def _check_lossless(
    bits: int | None, quantizer: Any, target: Target, validate: Validate
) -> None:
    given = {"bits": bits, "quantizer": quantizer, "validate": validate}
    given = {k: v for k, v in given.items() if v is not None}
    if given or target:
        raise SqueezeError(
            "Expected a live model beside arguments that quantize or measure "
            "it: a file's weights are stored as they are. "
            f"Received: {given or target}"
        )


def _check_arguments(
    bits: int | None,
    quantizer: Any,
    filters: Filters,
    target: Target,
    importance: Mapping[str, np.ndarray] | None,
    calibration: Any,
) -> None:
    target.require_alone(bits=bits if quantizer is None else quantizer)
    if filters is not None and bits is None and not (quantizer or target):
        raise SqueezeError(
            "Expected `bits`, `quantizer`, `snr_db`, `quality` or `max_bytes` "
            "beside `filters`, which chooses the kernels to quantize. "
            f"Received: filters={filters!r} alone"
        )
    steering = {
        "importance": importance is not None,
        "calibration": calibration is not None,
    }
    given = [name for name, there in steering.items() if there]
    steered = target or (given == ["importance"] and (bits or quantizer))
    if (given and not steered) or len(given) > 1:
        raise SqueezeError(
            "Expected `importance` or `calibration` beside `snr_db`, `quality` "
            "or `max_bytes`, or `importance` beside `quantizer`. Received: "
            f"{given} and {target}"
        )


def _grams(
    model: Any, calibration: Any, filters: Filters
) -> dict[str, np.ndarray] | None:
    if calibration is None:
        return None
    found = gram_matrices(model, calibration, filters)
    # Codes by rate and distortion are chosen for kernels of one matrix.
    return {path: gram for path, gram in found.items() if gram.ndim == 2}


def _with_validation(
    report: Report, draft: Draft, written: Artifact, validate: Validate
) -> Report:
    if validate is None:
        return report
    model = draft.model
    before = evaluate(model, validate)
    reloaded = load_model(
        written.path,
        _classes(model),
        key=draft.encryption_key,
        base=draft.base,
    )
    if not callable(validate):
        reloaded.compile_from_config(model.get_compile_config())
    after = evaluate(reloaded, validate)
    totals = dict(report.totals)
    for name, value in before.items():
        totals[f"{name}_before"] = value
        totals[f"{name}_after"] = after[name]
    return dataclasses.replace(report, totals=totals)


def _classes(model: Any) -> dict[str, Any]:
    """The caller holds the live model, so its classes are trusted."""
    layers = [layer for _, layer in walk_layers(model)]
    return {
        type(layer).__name__: type(layer)
        for layer in layers
        if not type(layer).__module__.startswith(("keras.", "keras_squeeze."))
    }
