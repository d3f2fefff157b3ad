"""The witness over real sockets: every status with its type, bounds, several at once, and an end in good order."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coldchain.errors import StorageError
from coldchain.tlog.checkpoint import open_checkpoint
from coldchain.tlog.note import parse_note
from coldchain_server.web.connection_cap import Bounds, Connections
from coldchain_server.web.json_log import log_as_json
from coldchain_server.web.listening import listening
from coldchain_server.witness import service as module
from coldchain_server.witness.cosigner import Cosigner, Reply
from coldchain_server.witness.home import WitnessHome
from coldchain_server.witness.service import BODY_BYTES, Service, witnessing
from tests.client.tlog.logs import LOG, SIGNED_AT
from tests.server.witness.asking import LONG, ORIGIN_ID, Client, ask, fork, make_witness, passphrase, serving
from tests.server.witness.test_cosigner import STATUSES, WHEN_EMPTY

TEXT = "text/plain; charset=utf-8"


@pytest.fixture
def home(tmp_path: Path) -> WitnessHome:
    return make_witness(tmp_path / "witness")


@pytest.mark.parametrize("held", [0, 3])
async def test_every_row_of_the_table_over_a_socket(held: int, tmp_path: Path) -> None:
    """A row that is cosigned is followed by others only in a new directory, since it moves the head."""
    rows = STATUSES if held else WHEN_EMPTY
    refused = [row for row in rows if row[1] != 200]
    accepted = [row for row in rows if row[1] == 200]
    batches = [[*refused, accepted[0]], *([row] for row in accepted[1:])]
    seen = set()
    for number, batch in enumerate(batches):
        async with serving(make_witness(tmp_path / str(number))) as client:
            if held:
                assert (await client.post(ask(0, held))).status == 200
            for name, status, body in batch:
                answer = await client.post(body)
                seen.add(status)
                assert answer.status == status, name
                assert answer.fields["content-type"] == ("text/x.tlog.size" if status == 409 else TEXT)
                assert answer.fields["cache-control"] == "no-store"
                assert "server" not in answer.fields
                if status == 409:
                    assert answer.body == b"%d\n" % held
                elif status == 200:
                    assert answer.body.startswith("— wit.example/fleet ".encode())
                else:
                    assert answer.body.endswith(b"\n")
    assert seen == ({200, 400, 403, 404, 409, 422} if held else {200, 403, 409, 422})


async def test_what_it_holds_is_shown(home: WitnessHome) -> None:
    path = f"/{ORIGIN_ID}/checkpoint"
    async with serving(home) as client:
        assert (await client.get(path)).status == 404
        for old, new in ((0, 3), (3, 7), (7, 7)):
            await client.post(ask(old, new))
            answer = await client.get(path)
            assert (answer.status, answer.fields["content-type"]) == (200, TEXT)
            opened = open_checkpoint(parse_note(answer.body), [LOG.key], [home.key])
            assert opened.checkpoint == LONG.checkpoint(new)
            assert opened.opened.signed == {LOG.key: None, home.key: SIGNED_AT}
        before = await client.get(path)
        assert (await client.post(ask(7, 9, fork(3, 9)))).status == 422
        assert (await client.get(path)).body == before.body
        assert (await client.get(path, "HEAD")).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/{ORIGIN_ID.upper()}/checkpoint", 404),
        (f"/{ORIGIN_ID[:-1]}/checkpoint", 404),
        (f"/{ORIGIN_ID}0/checkpoint", 404),
        ("/log.example/test/checkpoint", 404),
        ("/%27%20OR%201=1--/checkpoint", 404),
        ("/" + "0" * 64 + "/checkpoint", 404),
        ("/checkpoint", 404),
        ("/", 404),
        ("/add-checkpoint", 405),
        ("/../witness.sqlite", 404),
        ("/healthz", 200),
        ("/readyz", 200),
    ],
)
async def test_other_paths(home: WitnessHome, path: str, status: int) -> None:
    async with serving(home) as client:
        await client.post(ask(0, 3))
        assert (await client.get(path)).status == status


async def test_it_is_not_ready_before_it_follows_a_log(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "witness", [])
    async with serving(home) as client:
        answer = await client.get("/readyz")
        assert (answer.status, json.loads(answer.body)["reasons"]) == (503, ["no log is followed"])
        assert (await client.post(ask(0, 3))).status == 404
        beside = home.memory()  # another process adds the log while this one serves
        beside.follow(LOG.name, LOG.vkey)
        beside.close()
        assert (await client.get("/readyz")).status == 200
        assert (await client.post(ask(0, 3))).status == 200


async def test_bodies_are_bounded(home: WitnessHome) -> None:
    async with serving(home) as client:
        assert (await client.post(b"x" * BODY_BYTES)).status == 400
        assert (await client.post(b"x" * (BODY_BYTES + 1))).status == 413
        chunk = b"%x\r\n" % BODY_BYTES + b"x" * BODY_BYTES + b"\r\n"
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await client.send(head + chunk + chunk + b"0\r\n\r\n")).status == 413
        body = ask(0, 3)
        assert (await client.send(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")).status == 200


async def test_a_body_that_never_ends_is_cut_off(home: WitnessHome) -> None:
    bounds = Bounds(connections=16, answer_floor_seconds=0.2)
    async with witnessing(home, home.signer(passphrase), bounds=bounds) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nold 0\n")
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            await asyncio.sleep(0)  # as good an end as the other
        writer.transport.abort()
        assert server.counters.value("connections_late", state="answering") == 1
        assert (await Client(server.port).post(ask(0, 3))).status == 200


async def test_many_at_once_over_sockets_one_is_cosigned(home: WitnessHome) -> None:
    async with serving(home) as client:
        await client.post(ask(0, 3))
        branches = [fork(3, 3 + size) for size in range(1, 9)]
        answers = await asyncio.gather(*(client.post(ask(3, branch.size, branch)) for branch in branches))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7
        (won,) = [branch for branch, answer in zip(branches, answers, strict=True) if answer.status == 200]
        shown = parse_note((await client.get(f"/{ORIGIN_ID}/checkpoint")).body)
        assert open_checkpoint(shown, [LOG.key]).checkpoint == won.checkpoint()


class Held(Cosigner):
    """Answers when it is told to."""

    def __init__(self, cosigner: Cosigner) -> None:
        self.__dict__.update(cosigner.__dict__)
        self.may, self.began = threading.Event(), threading.Event()

    def add_checkpoint(self, body: bytes) -> Reply:
        self.began.set()
        assert self.may.wait(30)
        return super().add_checkpoint(body)


@asynccontextmanager
async def held_service(home: WitnessHome, bounds: Bounds) -> AsyncIterator[tuple[Client, Held, Service]]:
    memory = home.memory()
    cosigner = Held(Cosigner(memory, home.key, home.signer(passphrase), lambda: SIGNED_AT))
    service = Service(cosigner, memory.shown, lambda: len(memory.logs()))
    connections = Connections(bounds, service.counters)
    try:
        async with listening(service.app(connections), connections) as server:
            yield Client(server.port), cosigner, service
    finally:
        cosigner.may.set()
        service.close()
        memory.close()


async def test_when_too_many_wait_the_next_is_told_to_come_again(
    home: WitnessHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    async with held_service(home, Bounds()) as (client, cosigner, service):
        waiting = [asyncio.create_task(client.post(ask(0, 3))) for _ in range(3)]
        while service._waiting < 3:  # noqa: ASYNC110  the service has nobody to tell
            await asyncio.sleep(0.01)
        assert (await client.post(ask(0, 3))).short == (429, b"busy; come again\n")
        cosigner.may.set()
        assert sorted([(await one).status for one in waiting]) == [200, 409, 409]
        assert (await client.post(ask(3, 3))).status == 200
        assert service.counters.value("questions", outcome="busy") == 1


async def test_at_the_end_the_question_in_progress_is_answered(home: WitnessHome) -> None:
    async with held_service(home, Bounds(shutdown_seconds=20)) as (client, cosigner, _):
        asked = asyncio.create_task(client.post(ask(0, 3)))
        await asyncio.to_thread(cosigner.began.wait, 30)
        asyncio.get_running_loop().call_later(0.2, cosigner.may.set)
    assert (await asked).status == 200
    with pytest.raises(OSError):
        await client.get("/healthz")
    memory = home.memory()
    head = memory.head(LOG.name)
    assert head is not None
    assert head.size == 3
    memory.close()


async def test_a_memory_that_cannot_be_written_cosigns_nothing(
    home: WitnessHome, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process holds the file's lock for longer than is waited; then it lets go."""
    memory = home.memory()
    memory._connection.execute("PRAGMA busy_timeout=50")
    cosigner = Cosigner(memory, home.key, home.signer(passphrase), lambda: SIGNED_AT)
    service = Service(cosigner, memory.shown, lambda: len(memory.logs()))
    connections = Connections(Bounds(), service.counters)
    other = sqlite3.connect(home.directory / "witness.sqlite", isolation_level=None)
    try:
        async with listening(service.app(connections), connections) as server:
            client = Client(server.port)
            assert (await client.post(ask(0, 3))).status == 200
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(2):
                answer = await client.post(ask(3, 7))
                assert answer.short == (503, b"the witness cannot use its memory\n")
                assert (await client.get(f"/{ORIGIN_ID}/checkpoint")).status == 503
                assert (await client.get("/readyz")).status == 503
                assert (await client.get("/healthz")).status == 200
            other.execute("ROLLBACK")
            assert (await client.post(ask(3, 7))).status == 200
            assert (await client.get("/readyz")).status == 200
    finally:
        other.close()
        service.close()
        memory.close()
    assert "the memory refused" in caplog.text


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = log_as_json(stream)
    yield stream
    for name in ("coldchain", "asyncio"):
        logging.getLogger(name).removeHandler(handler)
        logging.getLogger(name).propagate = True


async def test_what_is_logged_names_logs_and_sizes_and_nobody(home: WitnessHome, lines: io.StringIO) -> None:
    async with serving(home) as client:
        await client.post(ask(0, 3))
        await client.post(b"nonsense")
        await client.send(b"GARBAGE\r\n\r\n")
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    cosigned = [line for line in found if line["message"] == "cosigned"]
    assert [(line["origin"], line["size"], line["old"]) for line in cosigned] == [(LOG.name, 3, 0)]
    others = [line for line in found if line["message"] != "listening"]
    assert "127.0.0.1" not in json.dumps(others)
    assert "nonsense" not in lines.getvalue()
    assert "GARBAGE" not in lines.getvalue()


async def test_two_processes_of_one_witness_are_one_witness(home: WitnessHome) -> None:
    async with serving(home) as first, serving(home) as second:
        assert (await first.post(ask(0, 3))).status == 200
        assert (await second.post(ask(0, 5))).short == (409, b"3\n")
        answers = await asyncio.gather(first.post(ask(3, 9)), second.post(ask(3, 9, fork(3, 9))))
        assert sorted(answer.status for answer in answers) == [200, 409]


def test_the_memory_is_opened_before_anything_is_answered(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "witness")
    (home.directory / "witness.sqlite").write_bytes(b"not a database at all" * 100)

    async def start() -> None:
        async with serving(home):
            raise AssertionError("it serves")

    with pytest.raises(StorageError, match=r"witness\.sqlite"):
        asyncio.run(start())
