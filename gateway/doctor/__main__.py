"""``python -m gateway.doctor``: one line a check, ``ok``, ``FAIL`` with what to do, or ``skip``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.doctor.checks import examine
from gateway.doctor.finding import Finding, fail, ok, status_of
from gateway.errors import ConfigurationError
from gateway.responders.profiles import load_profiles
from gateway.settings import Settings, load_settings

ENV_FILE = Path(".env")
EXIT_CONFIG = 2

_EPILOG = """\
Run it on the gateway's machine, with its settings, while it runs. It makes one call of a few
seconds, which is recorded like any other and may cost what an answer costs. It prints no secret.

exit status:
  0 nothing failed     1 something did     2 the settings cannot work

examples:
  python -m gateway.doctor                               all of it, by way of PUBLIC_URL
  python -m gateway.doctor --url http://127.0.0.1:4000   the gateway itself, without what is before
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at everything; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        settings = _read(given.env_file)
    except ConfigurationError as error:
        for sentence in str(error).splitlines():
            _say(fail("settings", sentence))
        return EXIT_CONFIG
    _say(ok("settings", "they can work"))
    findings = []
    for finding in examine(settings, given.url or ""):
        _say(finding)
        findings.append(finding)
    return status_of(findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.doctor",
        description="Say why a first caller hears nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--url", metavar="URL", type=_url, help="Ask here instead of at PUBLIC_URL."
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        type=Path,
        help="File of NAME=value lines. [.env of the current directory, if there is one]",
    )
    return parser


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    return text


def _read(env_file: Path | None) -> Settings:
    found = ENV_FILE if env_file is None and ENV_FILE.exists() else env_file
    settings = load_settings(found)
    load_profiles(settings.profile_dir)
    return settings


def _say(finding: Finding) -> None:
    sys.stdout.write(f"{finding.line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
