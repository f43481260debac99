"""Reads the profiles of ``PROFILE_DIR``: one TOML file a called number, and ``default.toml``."""

from __future__ import annotations

from pathlib import Path

from gateway.conversation.profile import DEFAULT, Profile, number_key, parse
from gateway.errors import ConfigurationError

PROFILES_MAX = 1_000
PROFILE_BYTES_MAX = 256 * 1024


def load_profiles(directory: Path) -> dict[str, Profile]:
    """All profiles by number (digits only) and ``default``.

    Raises ConfigurationError, with the file and the key, for a directory or a file that cannot
    be read, a file name that is no number, two files of one number, or a missing default.
    """
    profiles: dict[str, Profile] = {}
    for path in _files(directory):
        key = DEFAULT if path.stem == DEFAULT else number_key(path.stem)
        if not key:
            raise ConfigurationError(f"{path}: the file name must be a number or {DEFAULT}.toml")
        if key in profiles:
            raise ConfigurationError(f"{path}: another file is for the same number")
        profiles[key] = _load(path)
    if DEFAULT not in profiles:
        raise ConfigurationError(f"{directory}: {DEFAULT}.toml is missing")
    return profiles


def _files(directory: Path) -> list[Path]:
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise ConfigurationError(f"cannot read the profiles: {error}") from error
    if len(files) > PROFILES_MAX:
        raise ConfigurationError(f"{directory}: more than {PROFILES_MAX} profiles")
    return files


def _load(path: Path) -> Profile:
    try:
        with path.open("rb") as file:
            data = file.read(PROFILE_BYTES_MAX + 1)
        if len(data) > PROFILE_BYTES_MAX:
            raise ConfigurationError(f"larger than {PROFILE_BYTES_MAX} bytes")
        return parse(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
