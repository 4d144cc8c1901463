"""The arguments of the command, with a hint for what was mistyped."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

import keras_squeeze
from keras_squeeze.cli import (
    apply,
    compare,
    demo,
    diff,
    export,
    inspect,
    keygen,
    recode,
    sign,
    unpack,
    verify,
)

PROGRAM = "keras-squeeze"
VERBS = {
    "demo": demo,
    "export": export,
    "inspect": inspect,
    "verify": verify,
    "unpack": unpack,
    "recode": recode,
    "diff": diff,
    "apply": apply,
    "keygen": keygen,
    "sign": sign,
    "compare": compare,
}


class _Parser(argparse.ArgumentParser):
    """`ArgumentParser` whose messages name the closest known word."""

    known: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)'", message)
        if choice:
            message += _hint(choice.group(1), self.known)
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command, one sub-parser a verb."""
    parser = _Parser(
        prog=PROGRAM,
        description="Make Keras 3 models small, and look into the files.",
        allow_abbrev=False,
    )
    version = f"{PROGRAM} {keras_squeeze.__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.known = tuple(VERBS)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            parents=[_common()],
            allow_abbrev=False,
        )
        module.add_arguments(verb)
        verb.set_defaults(verb_module=module, verb_parser=verb)
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parses a command line; leaves by `SystemExit` where it is wrong.

    Args:
        parser: What `build_parser` made.
        argv: Sequence of strings, or `None` for those of the process.

    Returns:
        The namespace; `verb_module` is the module to run.
    """
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        verb = args.verb_parser
        options = [o for action in verb._actions for o in action.option_strings]
        hint = _hint(unknown[0].split("=")[0], options)
        verb.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def _common() -> _Parser:
    common = _Parser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="print the report as JSON"
    )
    group.add_argument("--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "--debug", action="store_true", help="print the traceback of an error"
    )
    return common


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
