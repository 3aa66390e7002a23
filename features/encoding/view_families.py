"""Where the views of a family are among the crops of an image.

A training image has K crops: the centre crop, then as many random views of each family. The first family has no name,
the others follow in the alphabetical order of theirs. The families differ in the area of their views.
"""

from __future__ import annotations

from collections.abc import Collection

from features.errors import InputError, nearest


def crops_of(views: int, families: Collection[str]) -> int:
    """Return K, the crops of a training image with `views` of the first family and of each of these."""
    return 1 + views * (1 + len(families))


def positions_of(family: str | None, families: Collection[str], crops: int, where: str) -> list[int]:
    """Return the positions of the centre crop and of a family's views among the crops of an image.

    Args:
        family: name of the family; None: the first one.
        families: names of all the others.
        crops: K.
        where: what holds the crops, for the error.

    Raises:
        InputError: there is no such family.
    """
    if family is not None and family not in families:
        raise InputError(
            f"{where} has no views of the family {family!r}; {nearest(family, families)}: set extract.view_families "
            "and run `dvc repro`"
        )
    views = (crops - 1) // (1 + len(families))
    first = 1 + views * (0 if family is None else 1 + sorted(families).index(family))
    return [0, *range(first, first + views)]
