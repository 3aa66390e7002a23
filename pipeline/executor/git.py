"""What git knows of this folder; it is read, never changed."""

from __future__ import annotations

import subprocess


def git(*words: str) -> str | None:
    """What git prints, or None where it fails: no repository, no commit, no git."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 (fixed words)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
