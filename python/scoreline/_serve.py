"""A server of one's own for as long as a ``with`` block: free ports, its state in a folder that is removed."""

import collections
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time

from ._program import ScorelineError, environment, program, told

# Lines of the log that an error shows.
SHOWN_LINES = 20
READY_WITHIN = 60.0
STOP_WITHIN = 30.0


def serve(models="models", *, settings=None):
    """A running server, as a context manager.

    ``settings`` are keys with dots, as in ``{"models.clv_model": "clv-purchases"}``; what is not named comes from the
    settings file and the environment, as for the program. The store is forgotten with the server, unless ``store.path`` is given.

    >>> with scoreline.serve("models") as server:
    ...     server.predict(recency_days=12, frequency_count=48)
    """
    return Server(models, dict(settings or {}))


class Server:
    """A server while its ``with`` block lasts; ``url`` and ``admin_url`` say where it listens."""

    def __init__(self, models, settings):
        self.models, self.settings = os.fspath(models), settings
        self.url = self.admin_url = None
        self._child = None

    def __enter__(self):
        if not os.path.isdir(self.models):
            raise ScorelineError(f"`models` must be a folder of models, `{self.models}` is none")
        self._folder = tempfile.TemporaryDirectory(prefix="scoreline-")
        own = {
            "server.listen": "127.0.0.1:0",
            "server.admin_listen": "127.0.0.1:0",
            "server.drain_delay": "0s",
            "store.path": os.path.join(self._folder.name, "scoreline.db"),
            "log.format": "json",
        }
        env = environment(self.models)
        for key, value in {**own, **self.settings}.items():
            env["SCORELINE__" + key.upper().replace(".", "__")] = _text(value)
        self._log = collections.deque(maxlen=SHOWN_LINES)
        self._serving = threading.Event()
        self._child = subprocess.Popen(
            [program(), "serve"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, name="scoreline-log", daemon=True)
        self._reader.start()
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the server: requests in flight are answered first."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join()
        self._child.stderr.close()
        self._child = None
        self._folder.cleanup()

    def predict(self, features=None, *, model=None, explain=False, **named):
        """The answer of ``POST /v1/predict/clv`` to one customer's features, given by name."""
        return self._predict("/v1/predict/clv", features, named, model=model, explain=explain)

    def predict_lead(self, features=None, *, model=None, **named):
        """The answer of ``POST /v1/predict/lead`` to one lead's features, given by name."""
        return self._predict("/v1/predict/lead", features, named, model=model)

    def post(self, path, body):
        """The answer to any endpoint, as JSON. Its refusals are ``ScorelineError``."""
        return self._ask("POST", path, json.dumps(body))

    def get(self, path):
        """The answer to any endpoint that is read, as JSON."""
        return self._ask("GET", path, None)

    def _predict(self, path, features, named, **options):
        body = {key: value for key, value in options.items() if value}
        return self.post(path, {"features": {**(features or {}), **named}, **body})

    def _ask(self, method, path, body):
        status, answer = self._reply(method, path, body)
        if status >= 400:
            error = answer.get("error") if isinstance(answer, dict) else None
            said = error.get("message") if isinstance(error, dict) else error
            raise ScorelineError(said or json.dumps(answer), status)
        return answer

    def _reply(self, method, path, body):
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=READY_WITHIN)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            reply = connection.getresponse()
            text = reply.read().decode("utf-8")
        finally:
            connection.close()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            raise ScorelineError(f"{method} {path}: {reply.status} {reply.reason}", reply.status) from None

    def _read(self):
        for line in self._child.stderr:
            line = line.decode("utf-8", "replace").rstrip()
            self._log.append(line)
            if self.url is None and '"serving"' in line:
                event = json.loads(line)
                self.url, self.admin_url = "http://" + event["listen"], "http://" + event["admin_listen"]
                self._serving.set()
        self._serving.set()

    def _await_ready(self):
        until = time.monotonic() + READY_WITHIN
        self._serving.wait(READY_WITHIN)
        while True:
            if self.url is None or self._child.poll() is not None:
                self._child.kill()
                self._reader.join()
                raise ScorelineError(told("\n".join(self._log)) or "the server did not start", self._child.wait())
            try:
                status, health = self._reply("GET", "/health/ready", None)
                # The model that is asked by default may be missing where others are asked by name.
                if status == 200 or health.get("status") == "no_model" and health.get("models"):
                    return
            except OSError as error:
                health = error
            if time.monotonic() > until:
                raise ScorelineError(f"the server is not ready after {READY_WITHIN:.0f} s: {health}")
            time.sleep(0.02)


def _text(value):
    """A setting as the environment has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
