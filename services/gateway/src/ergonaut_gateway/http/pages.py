"""The page on which people try models. It is the same for everybody and tells nothing: with the key that is given to it, it
asks the other doors as any caller does. So nothing that a person or a model's file chose is ever written into HTML here."""

import hashlib
import re
from base64 import b64encode
from functools import cached_property
from importlib.resources import files

from ergonaut_gateway.http.exchange import Exchange, Headers
from ergonaut_gateway.http.router import Router

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


class PagesDoor:
    """Answers with the page, at `/` and at each model's address."""

    def add_to(self, router: Router) -> None:
        """Have a router send these paths here."""
        for path in ("/", "/v2/models/{model}/page", "/v2/models/{model}/versions/{version}/page"):
            router.add("GET", path, self.page)

    def page(self, exchange: Exchange) -> None:
        """The page, whatever the model: there is none that it would know of."""
        exchange.answer(200, self._page, "text/html; charset=utf-8", self._headers)

    @cached_property
    def _page(self) -> bytes:
        return (files("ergonaut_gateway.http") / "page.html").read_bytes()

    @cached_property
    def _headers(self) -> Headers:
        return (
            ("content-security-policy", policy(self._page)),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-cache"),
        )


def policy(page: bytes) -> str:
    """What the page may do: run what stands in it, by its digest, and ask where it came from. Nothing else, nowhere else."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for match in _INLINE.finditer(page):
        digest = b64encode(hashlib.sha256(match[2]).digest()).decode()
        allowed[match[1].decode()].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; style-src {' '.join(allowed['style'])}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
