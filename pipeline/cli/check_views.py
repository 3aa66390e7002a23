"""Whether the stored features have the families of views that methods and generators learn from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from features.errors import nearest
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method


def view_conflicts(
    params: Params,
    dataset: str,
    methods: Mapping[str, Method | None],
    generators: Mapping[str, Generator | None],
) -> Iterator[str]:
    """Yield one line for each family of views that is named and not stored.

    Args:
        params: the settings of a run.
        dataset: the data set that is learned from.
        methods: the methods of the grid with its values; None where a block is invalid.
        generators: the generators of the grid, in the same form.
    """
    wanted = {f"methods.{name}": method.family_of_views for name, method in methods.items() if method}
    wanted |= {f"generators.{name}": generator.view_family for name, generator in generators.items() if generator}
    named = {block: family for block, family in wanted.items() if family is not None}
    if not named:
        return

    imported = params.data.sets.get(dataset, {}).get("reader") == "imported"
    stored = _imported_families(params, dataset) if imported else params.extract.view_families
    where = f"the imported features of {dataset!r}" if imported else "extract.view_families"
    for block, family in named.items():
        if family not in stored:
            yield (
                f"{block}.view_family: {family!r} is not in {where}; {nearest(family, stored)}. Name one of these, set "
                "null for the first family" + ("" if imported else ", or add it there; `extract` then runs again")
            )


def _imported_families(params: Params, dataset: str) -> Collection[str]:
    """Return the families of an imported store; none if it is not there, which stage `index` reports."""
    path = EncoderPaths(params.artifacts).features(dataset)
    if not path.exists():
        return ()
    from features.image_store.store import ImageStore  # imports Zarr

    return ImageStore.open(path).meta.view_families
