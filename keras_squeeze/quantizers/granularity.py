"""How many weights share a scale, and how wide a code is: the checks."""

from __future__ import annotations

from keras_squeeze.errors import SqueezeError

GRANULARITIES = ("per_tensor", "per_channel", "per_group")

_ALIASES = {"global": "per_tensor", "local": "per_group"}

#: Widths of a uniform grid; 16 bits are for files.
UNIFORM_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


def checked_granularity(granularity: str, group_size: int | None) -> str:
    """The canonical name of a granularity, if the group size goes with it.

    Args:
        granularity: String, one of `GRANULARITIES`, or `"global"` or
            `"local"`.
        group_size: Integer or `None`.

    Returns:
        String, one of `GRANULARITIES`.

    Raises:
        SqueezeError: If the name is unknown or the size does not fit it.

    Example:
    >>> checked_granularity("local", 32)
    'per_group'
    """
    if not isinstance(granularity, str) or granularity not in (
        *GRANULARITIES,
        *_ALIASES,
    ):
        raise SqueezeError(
            f"Expected `granularity` to be one of {GRANULARITIES}, or "
            '"global" or "local" for the first and the last. '
            f"Received: granularity={granularity!r}"
        )
    name = _ALIASES.get(granularity, granularity)
    if name != "per_group" and group_size is not None:
        raise SqueezeError(
            '`group_size` goes with `granularity="per_group"`. Received: '
            f"group_size={group_size!r}, granularity={granularity!r}"
        )
    if name == "per_group" and not _is_positive_integer(group_size):
        raise SqueezeError(
            'Expected a positive integer `group_size` with `granularity="'
            f'per_group"`. Received: group_size={group_size!r}'
        )
    return name


def check_bits(bits: int, supported: tuple[int, ...], name: str) -> None:
    """Raises unless a quantizer has codes of a width.

    Args:
        bits: Integer.
        supported: Tuple of integers, the widths there are.
        name: String, the quantizer's, for the message.

    Raises:
        SqueezeError: If it has none.
    """
    if _is_positive_integer(bits) and bits in supported:
        return
    raise SqueezeError(
        f"Expected `bits` to be {_described(supported)} for the quantizer "
        f"{name!r}. Received: bits={bits!r}"
    )


def _described(supported: tuple[int, ...]) -> str:
    if len(supported) == 1:
        return str(supported[0])
    narrow = [width for width in supported if width <= 8]
    text = f"an integer from {narrow[0]} to {narrow[-1]}"
    return text + (", or 16 for storage," if 16 in supported else "")


def _is_positive_integer(value: object) -> bool:
    integer = isinstance(value, int) and not isinstance(value, bool)
    return integer and value > 0  # type: ignore[operator]
