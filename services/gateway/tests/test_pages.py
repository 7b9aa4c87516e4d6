"""The page on which people try models: what a browser may do with it, and that a browser does what people expect."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ergonaut_gateway.http.pages import policy

from .browser import CHROMIUM, Browser, browsing
from .conftest import Gateway
from .onnx_models import identity
from .test_people import HOSTILE, classifying, gateway, http, keys, ring  # noqa: F401 - pytest finds fixtures by name

PAGE_BYTES_MAX = 60_000
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


async def test_the_page_is_small_self_contained_and_the_same_for_every_name(http: httpx.AsyncClient) -> None:  # noqa: F811
    index = await http.get("/", headers={"authorization": ""})
    assert (index.status_code, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(index.content) < PAGE_BYTES_MAX
    for name in ("digits", "no-such-model", "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "..%2f..%2fetc"):
        page = await http.get(f"/v2/models/{name}/page", headers={"authorization": ""})
        assert (page.status_code, page.content) == (200, index.content)
        assert page.headers["content-security-policy"] == index.headers["content-security-policy"]
    assert not re.search(r"https?://(?!\[)", index.text), "it asks nobody else for anything"


async def test_the_page_may_run_what_stands_in_it_and_nothing_else(http: httpx.AsyncClient) -> None:  # noqa: F811
    page = await http.get("/")
    allowed = page.headers["content-security-policy"]
    assert allowed == policy(page.content)
    assert "default-src 'none'" in allowed
    assert "unsafe" not in allowed
    assert allowed.count("sha256-") == 2
    # What would read text as HTML or as code is not there at all; styles and handlers that stand in elements are not allowed.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|Storage|cookie", page.text
    )
    assert not re.search(r"<[a-z][^>]*\s(on[a-z]+|style)=", page.text.partition("<script>")[0])


def enter(browser: Browser, key: str) -> None:
    browser.run(f"document.querySelector('.key input').value = {key!r}; document.querySelector('.key button').click()")


async def seen(tmp_path: Path, look: Callable[[Browser], Any]) -> Any:
    """What a look at a browser gives; it looks in a thread, since the door is on this one's loop."""

    def looked() -> Any:
        with browsing(tmp_path / "profile") as browser:
            found = look(browser)
            told = [each for each in browser.told if each.get("method") == "Log.entryAdded"]
            asked = [
                each["params"]["request"]["url"]
                for each in browser.told
                if each.get("method") == "Network.requestWillBeSent"
            ]
            return found, [each["params"]["entry"]["text"] for each in told], asked

    return await asyncio.to_thread(looked)


@needs_browser
async def test_a_person_enters_a_key_finds_a_model_and_predicts(
    gateway: Gateway,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    keys: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    await gateway.deploy(classifying(["length", "width", "height"], ["cat", "dog", "emu"]), "animals")

    def look(browser: Browser) -> Any:
        browser.open(str(http.base_url))
        assert "animals" not in browser.run("document.documentElement.innerHTML")
        enter(browser, keys["default"])
        browser.until("document.querySelector('a[href=\"/v2/models/animals/page\"]')?.textContent")
        browser.run("document.querySelector('a[href=\"/v2/models/animals/page\"]').click()")
        browser.until("document.querySelector('button.go')?.textContent")
        browser.run(
            "document.querySelectorAll('.fields input')[1].value = '9'; document.querySelector('button.go').click()"
        )
        label = browser.until("document.querySelector('.big')?.textContent")
        stored = "JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"
        kept = f"[location.href, {stored}, document.cookie, document.body.innerText]"
        return label, browser.run("document.querySelectorAll('.bars i').length"), *browser.run(kept)

    (label, bars, address, storages, cookie, text), wrong, asked = await seen(tmp_path, look)
    assert (label, bars) == ("dog", 3)
    assert "Training used\nnot told" in text
    assert re.search(r"Energy\n(not measured|[\d.e-]+ J, an estimate)", text)
    assert (storages, cookie, wrong) == ("{}{}", "", [])
    assert address == f"{http.base_url}/v2/models/animals/page".replace("//v2", "/v2")
    assert keys["default"] not in "".join((address, text, *asked))
    assert all(url.startswith((str(http.base_url), "data:,")) for url in asked)


@needs_browser
async def test_names_that_are_code_stay_text(
    gateway: Gateway,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    keys: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    await gateway.deploy(classifying(["a", HOSTILE, "__proto__"], ["cat", HOSTILE, "constructor"]), "hostile")

    def look(browser: Browser) -> Any:
        browser.run("globalThis.alert = () => { globalThis.alerted = true }")
        browser.open(f"{http.base_url}/v2/models/hostile/page")
        enter(browser, keys["default"])
        browser.until("document.querySelector('button.go')?.textContent")
        browser.run(
            "document.querySelectorAll('.fields input')[1].value = '9'; document.querySelector('button.go').click()"
        )
        label = browser.until("document.querySelector('.big')?.textContent")
        return label, browser.run(
            "[globalThis.alerted || false, document.querySelectorAll('img, main script, iframe').length]"
        )

    (label, (alerted, strangers)), wrong, _ = await seen(tmp_path, look)
    assert label.strip() == HOSTILE.strip()
    assert (alerted, strangers, wrong) == (False, 0, [])


@needs_browser
async def test_whole_numbers_of_64_bits_keep_their_last_digits_and_wrong_keys_are_told(
    gateway: Gateway,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    keys: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    await gateway.deploy(identity("INT64"), "same")

    def look(browser: Browser) -> Any:
        browser.open(f"{http.base_url}/v2/models/same/page")
        enter(browser, "no-key")
        refused = browser.until("document.querySelector('.wrong')?.textContent")
        enter(browser, keys["default"])
        browser.until("document.querySelector('button.go')?.textContent")
        browser.run(
            "document.querySelector('textarea').value = '[9007199254740993, 1]'; document.querySelector('button.go').click()"
        )
        browser.until("document.querySelector('.bars')?.textContent")
        return refused, browser.run("document.querySelector('details pre').textContent")

    (refused, answer), _, _ = await seen(tmp_path, look)
    assert refused.startswith("401")
    assert "[9007199254740993,1]" in answer
