"""The command line as a user has it: real processes, real files, real signals."""

import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = 'ordered = false\n[[step]]\ntimes = "any"\nreply = "Ann owns the payments service."\n'
ENDLESS = SCRIPT + "delay_s = 3600\n"
# Files of this process may not grow beyond this: a disk that is full, without needing one.
FULL_AFTER_BYTES = 40 * 1024


class Shell:
    """Runs ``collegium`` in a folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM_") and "_API_KEY" not in k
        } | {"COLLEGIUM_DATA_DIR": str(data), "HOME": str(folder), "COLLEGIUM_MODEL": "scripted:script.toml"}

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "collegium.cli", *argv]

    def __call__(self, *argv: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*argv),
            cwd=self.folder,
            env=self.environment | changes,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*argv),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with documents and a scripted model."""
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "owners.md").write_text("# Owners\n\nThe owner of the payments service is Ann.\n")
    (folder / "script.toml").write_text(SCRIPT)
    return Shell(folder, tmp_path / "data")


def wait_for_run(process: subprocess.Popen[str]) -> None:
    """Returns once the process has told that its run is stored. The test's time limit bounds it."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("run "):
            return
    pytest.fail("the process ended without a run")


def test_the_main_way(shell: Shell):
    done = shell("run", "-", "--files", "docs", stdin="Who owns the payments service?\n")
    assert done.returncode == 0
    assert "Ann owns the payments service. [1]" in done.stdout
    assert "[1] owners.md:" in done.stdout
    assert "supported" in done.stdout or "quoted" in done.stdout
    assert "Find evidence (researcher)" in done.stderr
    shown = shell("runs", "show", "last", "--json")
    report = json.loads(shown.stdout)
    assert (shown.stderr, report["status"]) == ("", "succeeded")
    text = (shell.folder / "docs" / "owners.md").read_text()
    for place in report["answer"]["citations"]:
        assert text[place["start"] : place["end"]] == place["quote"]


def test_progress_goes_to_standard_error(shell: Shell):
    done = shell("run", "Who owns it?", "--files", "docs", "--json")
    assert json.loads(done.stdout)["status"] == "succeeded"
    assert "planned" in done.stderr


BAD = [
    (["run", ""], 2, "the goal is empty"),
    (["run", "hi", "--files", "nowhere"], 2, "there is no file or folder nowhere"),
    (["run", "hi", "--files", "empty"], 2, "hold no files"),
    (["run", "hi", "--model", "opnai:x"], 2, "Did you mean 'openai'"),
    (["run", "hi", "--model", "gpt"], 2, "is not a model name"),
    (["run", "hi", "--model", "openai:x"], 2, "OPENAI_API_KEY"),
    (["run", "hi", "--model", "local:nothing"], 2, "there is no local model 'nothing'"),
    (["run", "hi", "--model", "scripted:none.toml"], 2, "none.toml"),
    (["run", "hi", "--output-schema", "script.toml"], 2, "is no JSON"),
    (["run", "hi", "--output-schema", "schema.json"], 2, "schema.json: the output schema"),
    (["run", "hi", "--limit-usd", "much"], 2, "is no amount"),
    (["run", "hi", "--limit-tokens", "0"], 2, "--limit-tokens"),
    (["run", "two", "goals"], 2, "there are 2 goals"),
    (["run", "hi", "--continue", "0123456789"], 2, "there is no run '0123456789'"),
    (["run", "hi", "--config", "none.toml"], 2, "there is no configuration file none.toml"),
    (["runs", "show", "0123456789"], 2, "there is no run '0123456789'"),
    (["runs", "resume", "last"], 2, "there is no run yet"),
    (["run", "hi", "--store", "oracle://x"], 2, "oracle://x"),
    (["run", "hi", "--store", "sqlite:///script.toml"], 5, "is damaged or no store of collegium"),
    (["run", "hi", "--data-dir", "script.toml/data"], 5, "script.toml/data"),
]


@pytest.mark.parametrize(("argv", "code", "said"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_one_message_and_a_code(shell: Shell, argv: list[str], code: int, said: str):
    (shell.folder / "empty").mkdir()
    (shell.folder / "schema.json").write_text('{"type": "object", "properties": {"a": {"type": "strin"}}}')
    done = shell(*argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_one_bad_file_fails_no_other(shell: Shell):
    (shell.folder / "docs" / "photo.bin").write_bytes(bytes(range(256)))
    (shell.folder / "docs" / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    done = shell("run", "Who owns the payments service?", "--files", "docs", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert {s["path"] for s in report["files"]["skipped"]} == {"photo.bin", "broken.pdf"}
    assert report["answer"]["citations"]


def test_a_server_that_is_not_there(shell: Shell):
    model = "openai-compatible:x@http://127.0.0.1:9/v1"
    done = shell("run", "hi", "--model", model, "--json", COLLEGIUM_MODELS__MAX_ATTEMPTS="1")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"], report["error"]) == (5, "failed", "model_unavailable")
    assert "is the server running?" in report["reason"]


def test_a_limit_ends_with_its_own_code(shell: Shell):
    done = shell("run", "hi", "--limit-tokens", "10", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (4, "limited")


def test_a_full_disk(shell: Shell):
    done = subprocess.run(
        shell.command("run", "hi"),
        cwd=shell.folder,
        env=shell.environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AFTER_BYTES, FULL_AFTER_BYTES)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="gives up a privilege of root, which is Linux's")
@pytest.mark.parametrize("what", ["collegium.db", "."])
def test_a_store_that_may_only_be_read(shell: Shell, what: str):
    assert shell("run", "hi").returncode == 0
    data = Path(shell.environment["COLLEGIUM_DATA_DIR"])
    (data / what).chmod(0o500)
    done = subprocess.run(
        shell.command("run", "hi"),
        cwd=shell.folder,
        env=shell.environment,
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        check=False,
    )
    (data / what).chmod(0o700)
    assert (done.returncode, done.stdout) == (5, "")
    assert "may not be written" in done.stderr
    assert "Traceback" not in done.stderr


def obey_permissions() -> None:
    """Takes from the process to come root's right to write what is not writable; nothing for another user.

    Source: prctl(2), PR_CAPBSET_DROP of CAP_DAC_OVERRIDE.
    """
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumed(shell: Shell, number: signal.Signals):
    (shell.folder / "script.toml").write_text(ENDLESS)
    process = shell.start("run", "Who owns the payments service?", "--files", "docs", "--json")
    wait_for_run(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    error = json.loads(out)["error"]
    assert error["code"] == "interrupted"
    found = re.search(r"`collegium runs resume (\w+)`", error["message"])
    assert found
    assert "Traceback" not in err
    (shell.folder / "script.toml").write_text(SCRIPT)
    done = shell("runs", "resume", found[1], "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"]) == (0, "succeeded")
    assert report["run_id"] == error["fields"]["run_id"]


def test_a_killed_run_is_resumed(shell: Shell):
    (shell.folder / "script.toml").write_text(ENDLESS)
    process = shell.start("run", "Who owns the payments service?", "--files", "docs")
    wait_for_run(process)
    process.kill()
    process.communicate()
    (shell.folder / "script.toml").write_text(SCRIPT)
    done = shell("runs", "resume", "last")
    assert done.returncode == 0
    assert "Ann owns the payments service." in done.stdout


def test_a_run_in_the_background(shell: Shell):
    done = shell("run", "Who owns the payments service?", "--files", "docs", "--detach")
    run = done.stdout.strip()
    assert done.returncode == 0
    assert re.fullmatch(r"run_[0-9a-f]{34}", run)
    followed = shell("runs", "events", run, "--follow")
    assert "run.finished" in followed.stdout
    assert json.loads(shell("runs", "show", run, "--json").stdout)["status"] == "succeeded"


def test_a_run_is_cancelled_from_elsewhere(shell: Shell):
    (shell.folder / "script.toml").write_text(ENDLESS)
    process = shell.start("run", "Who owns the payments service?", "--files", "docs", "--json")
    wait_for_run(process)
    assert shell("runs", "cancel", "last", "--reason", "wrong question").returncode == 0
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, json.loads(out)["status"]) == (130, "cancelled")


def test_a_reader_that_has_enough(shell: Shell):
    process = shell.start("--help")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=30)
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""


def test_help_comes_at_once_and_loads_nothing_heavy(shell: Shell):
    script = (
        "import sys; sys.argv = ['collegium', '--help']\n"
        "from collegium.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded & {"rich", "msgspec", "pydantic", "aiohttp", "numpy", "asyncio", "sqlite3"} == set()
