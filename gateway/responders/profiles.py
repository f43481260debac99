"""Reads the profiles of ``PROFILE_DIR``: one TOML file a called number, and ``default.toml``."""

from __future__ import annotations

from pathlib import Path

from gateway.conversation.profile import DEFAULT, Profile, number_key, parse
from gateway.errors import ConfigurationError

PROFILES_MAX = 1_000
PROFILE_BYTES_MAX = 256 * 1024


def load_profiles(directory: Path) -> dict[str, Profile]:
    """All profiles by number (digits only) and ``default``.

    Raises ConfigurationError, a line each, with the file and the key, for a directory or files
    that cannot be read, a file name that is no number, two files of one number, a missing default.
    """
    profiles: dict[str, Profile] = {}
    faults: list[str] = []
    for path in _files(directory):
        try:
            key = _key(path)
            if key in profiles:
                raise ConfigurationError("another file is for the same number")
            profiles[key] = _load(path)
        except ConfigurationError as error:
            faults += [f"{path}: {line}" for line in str(error).splitlines()]
    if DEFAULT not in profiles and not faults:
        faults.append(f"{directory}: {DEFAULT}.toml is missing")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return profiles


def _key(path: Path) -> str:
    key = DEFAULT if path.stem == DEFAULT else number_key(path.stem)
    if not key:
        raise ConfigurationError(f"the file name must be a number or {DEFAULT}.toml")
    return key


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
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"is not UTF-8: {error.reason}") from error
