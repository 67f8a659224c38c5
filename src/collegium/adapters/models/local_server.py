"""The process that runs a local model: llama.cpp's server through xllamacpp, on loopback, with a key of its own.

Started by ``local.py`` and on its own from then on: it serves every process of the user on this machine, ends when
nobody asked for anything for a while, when its state file is gone, and with the native code when that crashes.
Whether it lives is told by the lock it holds, never by its process id, which may be another's by now.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from pathlib import Path

import msgspec

from collegium.adapters.models.file_lock import try_lock

_log = logging.getLogger("collegium.local_server")
_POLL_S = 0.25
_METRICS_EVERY_S = 2.0
_LOCK_TRIES = 5
# Lines of llama.cpp's metrics that move while anybody uses the server.
_BUSY = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
_WORK = ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total", "llamacpp:tokens_predicted_total")


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve and where to say so; ``base`` is the path of the state, lock and log files without their ending."""

    model: str
    alias: str
    base: str
    context_tokens: int
    parallel: int
    threads: int
    idle_s: float

    def file(self, ending: str) -> Path:
        """One of the files of this server: ``.json`` ``.alive`` ``.lock`` ``.log``."""
        return Path(self.base + ending)


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a server; only its user may read the file that holds it."""

    instance: str
    pid: int
    url: str
    key: str


def read_state(path: Path) -> ServerState | None:
    """The state in the file at ``path``, or None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerState)
    except (OSError, msgspec.DecodeError):
        return None


def write_state(path: Path, state: ServerState) -> None:
    """Replaces the file at ``path`` at once; nobody but its user may read it."""
    part = path.with_name(f"{path.name}.{state.instance}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(state))
    part.replace(path)


def main(spec: ServerSpec) -> int:
    """Serves until idle; the exit code."""
    if not _is_only_one(spec.file(".alive")):
        _log.info("another process already serves this model")
        return 0
    import xllamacpp

    key = secrets.token_urlsafe(32)
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, spec, key))
    except RuntimeError as error:  # llama.cpp has said why, just above in the log
        _log.error("the model was not loaded: %s", error)
        return 1
    state = ServerState(instance=secrets.token_hex(8), pid=os.getpid(), url=f"{server.listening_address}/v1", key=key)
    write_state(spec.file(".json"), state)
    _log.info("serving %s at %s", spec.model, server.listening_address)
    _serve(server, spec, state)
    if read_state(spec.file(".json")) == state:
        spec.file(".json").unlink(missing_ok=True)
    return 0


def _is_only_one(alive: Path) -> bool:
    """Takes the lock that says this process lives; False where another one holds it."""
    # Whoever looks whether the lock is held holds it for a moment: that is no reason to give up.
    for _ in range(_LOCK_TRIES):
        if try_lock(alive) is not None:
            return True
        time.sleep(_POLL_S)
    return False


def _parameters(xllamacpp, spec: ServerSpec, key: str):  # type: ignore[no-untyped-def]  # xllamacpp ships no types
    parameters = xllamacpp.CommonParams()
    parameters.model.path = spec.model
    parameters.model_alias = {spec.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.n_ctx = spec.context_tokens * spec.parallel
    parameters.n_parallel = spec.parallel
    parameters.cpuparams.n_threads = spec.threads
    parameters.cpuparams_batch.n_threads = spec.threads
    parameters.cache_prompt = True
    # Prompts of slots that were given to another conversation; llama.cpp's own default is 8 GiB of memory.
    parameters.cache_ram_mib = 256
    parameters.use_jinja = True
    parameters.endpoint_metrics = True
    parameters.ui = False
    parameters.verbosity = 2
    return parameters


def _serve(server, spec: ServerSpec, state: ServerState) -> None:  # type: ignore[no-untyped-def]  # as above
    last_work, used_at, looked_at = "", time.monotonic(), 0.0
    while True:
        time.sleep(_POLL_S)
        # A vanished or replaced state file means that nobody can find this server any more.
        if read_state(spec.file(".json")) != state:
            _log.info("the state file is gone: ending")
            return
        now = time.monotonic()
        if now - looked_at < min(_METRICS_EVERY_S, spec.idle_s / 4):
            continue
        looked_at = now
        work, is_busy = _activity(str(server.handle_metrics()))
        if is_busy or work != last_work:
            last_work, used_at = work, now
        elif now - used_at > spec.idle_s:
            _log.info("idle for %g s: ending", spec.idle_s)
            return


def _activity(metrics: str) -> tuple[str, bool]:
    """What has been done so far, in a form to compare, and whether something is being done now."""
    lines = [line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#")]
    values = {name: value for name, _, value in lines}
    return " ".join(values.get(name, "") for name in _WORK), any(values.get(name, "0") != "0" for name in _BUSY)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    code = main(msgspec.json.decode(sys.argv[1], type=ServerSpec))
    sys.stderr.flush()
    # Without the interpreter's own end: native threads may be in the middle of something.
    os._exit(code)
