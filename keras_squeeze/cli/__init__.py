"""The command `keras-squeeze VERB FILE`: one module a verb.

A verb's module has `HELP`, `add_arguments(parser)` and `run(args) -> Report`;
it imports what it needs inside `run`, so that `inspect` and `verify` answer
without Keras. Exit codes: 0 done, 1 a check failed or an error, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_squeeze.cli.output import error_line, to_json
from keras_squeeze.cli.parser import build_parser, parse

if TYPE_CHECKING:
    import argparse

    from keras_squeeze.report import Report

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Optional sequence of strings, the arguments after the program's
            name. Defaults to those of the process.

    Returns:
        The exit code: 0 done, 1 a check failed or an error, 2 wrong usage.

    Example:
    >>> main(["--version"])
    keras-squeeze 0.1.0
    0
    """
    try:
        args = parse(build_parser(), argv)
        return _run(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def _run(args: argparse.Namespace) -> int:
    try:
        _print_report(args.verb_module.run(args), args)
        return 0
    except KeyboardInterrupt:
        print("keras-squeeze: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); nothing is left to say to it, and
        # the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _print_error(error, args)
        return 1


def _print_report(report: Report, args: argparse.Namespace) -> None:
    if args.json:
        print(to_json(report.to_dict()), flush=True)
    elif not args.quiet:
        closing = getattr(args.verb_module, "closing", lambda _: "")
        print(report, closing(args), sep="\n", flush=True)


def _print_error(error: Exception, args: argparse.Namespace) -> None:
    report: Report | None = getattr(error, "report", None)
    if args.json:
        known = report.to_dict() if report is not None else {}
        kind, message = type(error).__name__, error_line(error)
        print(to_json({**known, "error": message, "error_type": kind}))
    elif report is not None and not args.quiet:
        print(report)
    if args.debug:
        traceback.print_exception(error)
    print(f"keras-squeeze: error: {error_line(error)}", file=sys.stderr)
