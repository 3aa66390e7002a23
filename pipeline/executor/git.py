"""Read-only access to the git repository of the project."""

from __future__ import annotations

import subprocess


def git(*words: str) -> str | None:
    """Return the output of a git command; None if it fails (no repository, no commit, git is not installed)."""
    try:
        process = subprocess.run(["git", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 (fixed words)
    except OSError:
        return None
    return process.stdout.strip() if process.returncode == 0 else None
