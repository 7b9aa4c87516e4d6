"""A real Chromium, driven through its own pipe, so that no driver has to be installed."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page of it."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._number, self._rest = reading, writing, 0, b""
        self.told: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer; what it tells meanwhile is kept."""
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session := getattr(self, "_session", None):
            asked["sessionId"] = session
        os.write(self._writing, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.told.append(answer)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What a script gives, a promise's value where it gives one."""
        given = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in given, given
        return given["result"].get("value")

    def until(self, script: str, seconds: float = 20) -> Any:
        """What a script gives as soon as that is something."""
        ends = time.monotonic() + seconds
        while not (found := self.run(f"Boolean({script}) && ({script})")):
            assert time.monotonic() < ends, f"not in {seconds} s: {script}: {self.run('document.body.innerText')}"
            self.run("new Promise(resolve => setTimeout(resolve, 20))")
        return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._reading, 1 << 16)
            assert piece, "the browser ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def browsing(folder: Path, *, dark: bool = False, size: str = "1180,1000") -> Iterator[Browser]:
    """A browser with a profile of its own."""
    assert CHROMIUM
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    # It reads from descriptor 3 and writes to 4, whatever numbers ours are.
    wrapped = f'exec 3<&{to_read} 4>&{from_write}; exec "$@"'
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        "--hide-scrollbars",
    ]
    command += [
        f"--user-data-dir={folder}",
        f"--window-size={size}",
        "--disable-background-networking",
        "--no-first-run",
    ]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    process = subprocess.Popen(
        ["bash", "-c", wrapped, "chromium", *command],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(from_read, to_write)
    finally:
        os.close(to_write)
        process.terminate()
        process.wait(10)
        os.close(from_read)
