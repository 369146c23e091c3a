"""What every model on another machine has in common: an address that the host named, a key that goes nowhere but there, and refusals to be told in words."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import SplitResult, urlsplit


def parsed(url: str) -> SplitResult | None:
    """The parts of an http(s) address without a name, password or query; None for anything else."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for one that is no number
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname and not parts.username and not parts.query else None


def shown(url: str) -> str:
    """An address, as far as it may be repeated: no password, no key."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"
    return ""


def patience(silence: float, connect: float):
    """Seconds to wait between two bytes, and until the call is taken."""
    from httpx2 import Timeout  # what huggingface_hub speaks with

    return Timeout(silence, connect=connect)


def kinds(error: BaseException) -> set[str]:
    """The names of all classes that an error is of."""
    return {kind.__name__ for kind in type(error).__mro__}


def words_of(response, key: str) -> str:
    """What a server says about its refusal, as far as it is text."""
    words = ""
    with suppress(Exception):  # closed, or not text
        response.read()
        words = response.text
        told = response.json()
        told = told.get("error", told.get("message", told.get("detail", words))) if isinstance(told, dict) else words
        words = str(told.get("message", told) if isinstance(told, dict) else told)
    return plain(words, key)


def plain(words: str, key: str) -> str:
    """Words of a server on one line, not too many, without the key."""
    words = " ".join(words.split())
    return (words.replace(key, "***") if key else words)[:200] or "?"


def open_offline(host: str) -> None:
    """HF_HUB_OFFLINE closes the way to the Hub, for everything that goes through its library; the host's own server is no part of it."""
    from huggingface_hub import get_session

    session = get_session()
    spared = {host for check in session.event_hooks["request"] if isinstance(check, Elsewhere) for host in check.hosts}
    if host not in spared:
        checks = [each for check in session.event_hooks["request"] for each in (check.checks if isinstance(check, Elsewhere) else [check])]
        session.event_hooks = {**session.event_hooks, "request": [Elsewhere(checks, spared | {host})]}


class Elsewhere:
    """The checks of a session, spared the requests to some hosts."""

    def __init__(self, checks: list, hosts: set[str]):
        self.checks, self.hosts = checks, hosts

    def __call__(self, request) -> None:
        if request.url.host not in self.hosts:
            for check in self.checks:
                check(request)
