"""`shipyard verify`: hash every output that `dvc.lock` records, in the workspace and in DVC's cache."""

from __future__ import annotations

import sys

from features.errors import raise_all


def verify_outputs(repair: bool) -> str:
    """Hash every output, restore or remove what is damaged if `repair`, and return what was found.

    Raises:
        InputError: another run is at work, this is not a project, or outputs are damaged and `repair` is false.
    """
    from pipeline.executor.damage import cache_folder, changed_inputs, find_damage, tracked_files
    from pipeline.executor.repository import exclusive_run

    with exclusive_run("shipyard verify"):
        files = tracked_files(cache_folder())
        size = sum(file.size for file in files)
        damages = list(find_damage(files))
        missing = sum(file.missing for file in files)
        for path in changed_inputs():
            print(
                f"note: {path} is not as the last run read it: it was edited, or it is damaged. It is left alone.",
                file=sys.stderr,
            )

        if repair:
            done = [line for damage in damages for line in damage.repair()]
            hashed = f"{len(files) - missing} files hashed, {size / 1e6:,.1f} MB"
            return "\n".join([*done, f"{len(damages)} damaged files, {hashed}{_missing_text(missing)}"])

    bad = list(dict.fromkeys(str(path) for damage in damages for path in damage.bad))
    raise_all(
        bad,
        "files are not what dvc.lock records. `shipyard verify --repair` restores them from a whole copy, or removes "
        "them, so that `shipyard run` makes them again",
    )
    return (
        f"{len(files) - missing} files are what dvc.lock records, {size / 1e6:,.1f} MB in the workspace and in DVC's "
        f"cache{_missing_text(missing)}"
    )


def _missing_text(missing: int) -> str:
    return f"; {missing} others are in neither: `dvc pull` fetches them, `shipyard run` makes them" if missing else ""
