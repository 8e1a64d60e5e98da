"""A headless Chromium, driven through the pipe of its DevTools protocol. It needs no driver and no package.

It knows how to start a browser, to send it commands, and what a person does with a page: go, click, type, look. It knows no
page of ours.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

COMMAND_WITHIN_S = 40.0
WAIT_WITHIN_S = 30.0


def executable() -> str | None:
    """Chromium of this machine; MAINSTAY_CHROMIUM says another."""
    return os.environ.get("MAINSTAY_CHROMIUM") or next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


class Chromium:
    """One browser process; also a context manager that ends it."""

    def __init__(self):
        self._profile = tempfile.mkdtemp(prefix="mainstay-chromium-")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
                 f"--user-data-dir={self._profile}", "about:blank"]
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        # Above the numbers that the browser expects, so that one does not overwrite the other.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out)]

        def as_expected():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen([executable(), *flags], preexec_fn=as_expected, pass_fds=(3, 4), start_new_session=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self._answers: dict[int, dict] = {}
        self._listeners = []
        self._changed = threading.Condition()
        self._last = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b""
        while True:
            try:
                chunk = os.read(self._in, 1 << 16)
            except OSError:
                return
            if not chunk:
                return
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                with self._changed:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    for listener in self._listeners if "method" in message else []:
                        listener(message)
                    self._changed.notify_all()

    def command(self, method: str, session: str | None = None, **params) -> dict:
        with self._changed:
            self._last += 1
            number = self._last
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers, COMMAND_WITHIN_S):
                raise TimeoutError(f"Chromium does not answer {method}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, width=1280, height=900, dark=False, scripts=True, mobile=False) -> "Page":
        """A page in a fresh profile."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, width, height, dark, scripts, mobile)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Its own process group: the browser and its helpers.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, width: int, height: int, dark: bool, scripts: bool, mobile: bool):
        self.browser, self.session = browser, session
        self.complaints: list[str] = []
        """What the page's console said: errors of scripts, refusals by the policy."""
        browser._listeners.append(self._hear)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self("%s.enable" % domain)
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.scripts = scripts

    def _hear(self, message: dict):
        if message.get("sessionId") != self.session:
            return
        params = message["params"]
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        if message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def __call__(self, method: str, **params) -> dict:
        return self.browser.command(method, self.session, **params)

    def js(self, expression: str):
        """The value of an expression; a promise is awaited. Works in pages whose own scripts are off, too."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def until(self, expression: str, within_s: float = WAIT_WITHIN_S):
        """Waits until an expression is true; returns its value."""
        began = time.monotonic()
        while True:
            try:
                value = self.js(expression)
            except RuntimeError:
                # The page is between two documents.
                value = None
            if value:
                return value
            if time.monotonic() - began > within_s:
                text = self.js("document.body.innerText")
                raise AssertionError(f"never true: {expression}\nat {self.js('location.href')}\n{text[:3000]}")
            time.sleep(0.05)

    def go(self, address: str) -> "Page":
        """Opens an address and waits until it is there."""
        self.js("window.wasHere = true")
        answer = self("Page.navigate", url=address)
        assert not answer.get("errorText"), answer["errorText"]
        self.settled()
        return self

    def settled(self):
        self.until("document.readyState === 'complete' && !window.wasHere")

    def leaves(self, act) -> "Page":
        """Does what leads to another page, and waits for that."""
        self.js("window.wasHere = true")
        act()
        self.settled()
        return self

    def text(self, selector: str = "body") -> str:
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def count(self, selector: str) -> int:
        return self.js(f"document.querySelectorAll({json.dumps(selector)}).length")

    def click(self, selector: str, containing: str = ""):
        """A real click, with the mouse, on what is visible and has the text."""
        find = f"""[...document.querySelectorAll({json.dumps(selector)})].find(element =>
            element.innerText?.includes({json.dumps(containing)}) && element.checkVisibility())"""
        self.until(f"!!({find})")
        box = self.js(f"""(() => {{ const element = {find}; element.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, selector: str, text: str):
        """Replaces the content of a field."""
        self.js(f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.focus(); field.select?.(); }})()")
        self("Input.insertText", text=text)

    def press(self, key: str):
        codes = {"Enter": ("\r", 13), "Escape": ("", 27), "Tab": ("", 9)}
        text, code = codes.get(key, (key, ord(key[0].upper())))
        common = {"key": key, "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self("Input.dispatchKeyEvent", type="keyUp", **common)

    def cookie(self, address: str, name: str, value: str):
        self("Network.setCookie", url=address, name=name, value=value)

    def screenshot(self, path: str | Path, whole=False):
        params = {}
        if whole:
            size = self("Page.getLayoutMetrics")["cssContentSize"]
            params = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        Path(path).write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png", **params)["data"]))
