from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.conversation.profile import choose
from gateway.errors import ConfigurationError
from gateway.responders.profiles import PROFILE_BYTES_MAX, load_profiles

SHIPPED = Path(__file__).parents[3] / "profiles"


def _write(directory: Path, **files: str) -> Path:
    for stem, text in files.items():
        (directory / f"{stem}.toml").write_text(text, encoding="utf-8")
    return directory


def test_the_shipped_profile_is_valid_and_documents_every_key() -> None:
    profiles = load_profiles(SHIPPED)
    profile = profiles["default"]
    text = (SHIPPED / "default.toml").read_text(encoding="utf-8")
    for key in profile.__dataclass_fields__:
        assert re.search(rf"^\[?{key}\b", text, re.MULTILINE), key
    assert profile.greeting.keys() == {"en", "ru", "ar"}


def test_the_shipped_examples_are_valid_when_their_comment_sign_is_removed(tmp_path: Path) -> None:
    text = (SHIPPED / "default.toml").read_text(encoding="utf-8")
    used, count = re.subn(r"^# (?=[a-z]+ = \")", "", text, flags=re.MULTILINE)
    assert count == 8
    profile = load_profiles(_write(tmp_path, default=used))["default"]
    assert profile.questions["en"].keys() == {"offer", "reason", "name", "number"}
    assert profile.transfer_targets == {"sales": "+15551234567"}


def test_each_file_is_the_profile_of_its_number(tmp_path: Path) -> None:
    _write(tmp_path, default='business_name = "a"', **{"+1555 123": 'business_name = "b"'})
    (tmp_path / "notes.txt").write_text("not a profile")
    profiles = load_profiles(tmp_path)
    assert profiles.keys() == {"default", "1555123"}
    assert choose(profiles, "+1555123").business_name == "b"


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({}, "default.toml is missing"),
        ({"default": "name = 1"}, "default.toml: name: unknown key"),
        ({"default": 'business_name = "a"', "sales": ""}, "sales.toml: the file name must be"),
        (
            {"default": 'business_name = "a"', "155": 'business_name = "b"', "+155": "x"},
            "155.toml: ",
        ),
        ({"default": "#" * (PROFILE_BYTES_MAX + 1)}, "default.toml: larger than"),
    ],
)
def test_a_bad_directory_is_told_in_one_sentence(
    tmp_path: Path, files: dict[str, str], fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(fault)) as caught:
        load_profiles(_write(tmp_path, **files))
    assert str(tmp_path) in str(caught.value)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    good = 'business_name = "a"'
    _write(tmp_path, default=good, **{"155": good, "+155": good})
    with pytest.raises(ConfigurationError, match="another file is for the same number"):
        load_profiles(tmp_path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the profiles.*nowhere"):
        load_profiles(tmp_path / "nowhere")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"default\.toml: is not UTF-8"):
        load_profiles(tmp_path)
