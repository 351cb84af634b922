"""Payloads that nobody reads who has no key, and people who are shown them in clear."""

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Thread

import pytest
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload

from amends.codec_endpoint import LARGEST, CodecEndpoint
from amends.connect import connect
from amends.encryption import ENCODING, Encryption, KeyRing, converter
from amends.errors import KeyMissing, StartupError
from amends.settings import Settings
from tests.conftest import RunWorker
from tests.sagas.given import Handle, until
from tests.sagas.travels import WAIT, book, travelling, undone

TOKEN = "of-somebody-who-may"
WEB_UI = "http://127.0.0.1:8233"


def key() -> str:
    return b64encode(os.urandom(32)).decode()


OLD, NEW = f"2025:{key()}", f"2026:{key()}"


def with_keys(settings: Settings, *keys: str) -> Settings:
    return settings.model_copy(update={"payload_keys": SecretStr(",".join(keys)) if keys else None})


async def stored(settings: Settings, handle: Handle) -> bytes:
    """What Temporal has of a workflow: its history, its memo and its attributes."""
    plain = (await connect(with_keys(settings))).get_workflow_handle(handle.id)
    history, description = await plain.fetch_history(), await plain.describe()
    events = b"".join(event.SerializeToString() for event in history.events)
    return events + description.raw_description.SerializeToString()


async def test_given_keys_when_a_saga_is_undone_then_temporal_holds_nothing_of_it_in_clear(
    settings: Settings, run_worker: RunWorker
) -> None:
    settings = with_keys(settings, NEW)
    async with travelling(settings, run_worker) as trips:
        handle = await trips.start(book("secret garden"), WAIT)
        await trips.hear(handle)
        await handle.execute_update("turn_back", "of an affair")
        error = await undone(handle)
        # then: those who have the key read all of it, reasons of failures too
        assert "of an affair" in str(error)
        assert await trips.events(handle) == ["booked secret garden", "unbooked secret garden"]
        # and the server nothing
        held = await stored(settings, handle)
        for clear in (b"secret garden", b"of an affair", b"Phileas", b"round the world"):
            assert clear not in held, clear
        assert ENCODING in held


async def test_given_no_keys_when_a_saga_ends_then_payloads_are_as_they_were(
    settings: Settings, run_worker: RunWorker
) -> None:
    async with travelling(settings, run_worker) as trips:
        handle = await trips.start(book("hotel"))
        await handle.result()
        held = await stored(settings, handle)
    assert b"Phileas" in held
    assert ENCODING not in held


@pytest.mark.parametrize("before", [(), (OLD,)], ids=["no key", "an older key"])
async def test_given_a_saga_under_way_when_a_key_is_added_then_it_goes_on_and_what_is_new_takes_the_new_one(
    settings: Settings, run_worker: RunWorker, before: Sequence[str]
) -> None:
    # given
    async with travelling(with_keys(settings, *before), run_worker) as trips:
        handle = await trips.start(book("hotel"), WAIT, book("car"))
        await trips.hear(handle)
    # when
    now = with_keys(settings, NEW, *before)
    async with travelling(now, run_worker) as trips:
        again = trips.client.get_workflow_handle(handle.id)
        await again.signal("call", "go")
        # then
        assert await again.result() == ["go"]
        assert await trips.events(handle) == ["booked hotel", "booked car"]
    assert b"2026" in await stored(settings, handle)


async def test_given_another_key_of_the_same_id_when_a_saga_goes_on_then_it_waits_for_the_right_one(
    settings: Settings, run_worker: RunWorker
) -> None:
    # given
    async with travelling(with_keys(settings, OLD), run_worker) as trips:
        handle = await trips.start(book("hotel"), WAIT, task=2)
        await trips.hear(handle)
    # when
    wrong = with_keys(settings, f"2025:{key()}")
    async with travelling(wrong, run_worker) as trips:
        there = trips.client.get_workflow_handle(handle.id)
        await (await connect(with_keys(settings, OLD))).get_workflow_handle(handle.id).signal("call", "go")

        async def fails() -> bool:
            pending = (await there.describe()).raw_description.pending_workflow_task
            return pending.attempt > 1

        await until("its task has failed", fails)
    # then
    async with travelling(with_keys(settings, OLD), run_worker) as trips:
        again = trips.client.get_workflow_handle(handle.id)
        assert await again.result() == ["go"]
    with pytest.raises(KeyMissing, match="'2025'"):
        await (await connect(wrong)).get_workflow_handle(handle.id).result()


async def test_given_a_worker_without_the_key_when_an_encrypted_signal_comes_then_it_is_not_lost(
    settings: Settings, run_worker: RunWorker
) -> None:
    # given
    async with travelling(settings, run_worker) as trips:
        handle = await trips.start(book("hotel"), WAIT, task=2)
        await trips.hear(handle)
        # when
        keyed = (await connect(with_keys(settings, NEW))).get_workflow_handle(handle.id)
        await keyed.signal("call", "go")

        async def fails() -> bool:
            return (await handle.describe()).raw_description.pending_workflow_task.attempt > 1

        await until("its task has failed", fails)
        trips.started.clear()  # nobody here can replay it
    # then: also by a worker that reads what is encrypted and encrypts nothing itself
    async with travelling(with_keys(settings, "plain", NEW), run_worker) as trips:
        assert await trips.client.get_workflow_handle(handle.id).result() == ["go"]
    assert (await stored(settings, handle)).count(ENCODING) == 1


async def test_given_a_refused_saga_when_asked_without_the_key_then_its_reason_is_not_told(
    settings: Settings, run_worker: RunWorker
) -> None:
    settings = with_keys(settings, NEW)
    async with travelling(settings, run_worker) as trips:
        handle = await trips.start(book("full cruise"))
        await undone(handle)
    with pytest.raises(KeyMissing, match="the key '2026', which AMENDS_PAYLOAD_KEYS does not list"):
        await (await connect(with_keys(settings))).get_workflow_handle(handle.id).result()


# The cipher


async def test_given_a_payload_when_encrypted_twice_then_it_differs_and_both_come_back() -> None:
    codec, payload = Encryption(KeyRing(NEW)), Payload(metadata={"encoding": b"json/plain"}, data=b'"card"')
    one, two = await codec.encode([payload, payload])
    assert one.data != two.data
    assert await codec.decode([one, two, payload]) == [payload] * 3


@pytest.mark.parametrize("what", ["data", "key", "short"])
async def test_given_a_payload_that_was_changed_when_decrypted_then_refused(what: str) -> None:
    ring = KeyRing(f"{NEW},{OLD}")
    (sealed,) = await Encryption(ring).encode([Payload(data=b"x" * 40)])
    if what == "data":
        sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    elif what == "key":
        sealed.metadata["encryption-key-id"] = b"2025"
    else:
        sealed.data = sealed.data[:5]
    with pytest.raises(KeyMissing, match="is not what was encrypted"):
        await Encryption(ring).decode([sealed])


async def test_given_an_unknown_key_when_decrypted_then_named() -> None:
    sealed = await Encryption(KeyRing(OLD)).encode([Payload(data=b"x")])
    with pytest.raises(KeyMissing, match=r"the key '2025'.*AMENDS_PAYLOAD_KEYS does not list"):
        await Encryption(KeyRing(NEW)).decode(sealed)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "entry 1: write it as id:key"),
        ("", "entry 1: write it as id:key.* or set it to 'plain'"),
        (f"{NEW},plain", "entry 2: write it as id:key"),
        (f"{NEW},", "entry 2: write it as id:key"),
        (f":{key()}", "entry 1: write it as id:key"),
        ("a:c2hvcnQ=", "the key 'a' is not 32 bytes"),
        ("a:§§§", "the key 'a' is not 32 bytes"),
        (f"{NEW},{NEW}", "the key id '2026' is there twice"),
    ],
    ids=["no id", "nothing", "plain behind", "blank entry", "empty id", "short", "no base64", "twice"],
)
def test_given_keys_that_are_none_when_read_then_a_startup_error_that_quotes_none(
    settings: Settings, text: str, problem: str
) -> None:
    with pytest.raises(StartupError, match=problem) as error:
        converter(with_keys(settings, text))
    assert NEW.partition(":")[2] not in str(error.value)
    assert "c2hvcnQ" not in str(error.value)
    assert NEW.partition(":")[2] not in repr(KeyRing(NEW)) + repr(with_keys(settings, NEW))


# What people see


@pytest.fixture
def endpoint() -> Iterator[CodecEndpoint]:
    with CodecEndpoint(Encryption(KeyRing(NEW)), TOKEN, [WEB_UI]) as endpoint:
        serving = Thread(target=endpoint.serve_forever)
        serving.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            serving.join()


def ask(
    endpoint: CodecEndpoint, path: str, body: bytes | str = b"{}", method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_given_the_token_when_payloads_are_sent_then_they_come_back_in_clear(endpoint: CodecEndpoint) -> None:
    plain = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "ImNhcmQi"}]}
    for path, headers in (("/encode", BEARER), (f"/{TOKEN}/encode", {})):
        status, _, sealed = ask(endpoint, path, json.dumps(plain), **headers)
        assert (status, b"ImNhcmQi" in sealed) == (200, False)
        status, told, clear = ask(endpoint, path.replace("encode", "decode"), sealed, **headers)
        assert (status, json.loads(clear), told["cache-control"]) == (200, plain, "no-store")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/decode", {}),
        ("/decode", {"Authorization": "Bearer somebody-else-who-may"}),
        ("/decode", {"Authorization": f"Basic {TOKEN}"}),
        ("/somebody-else-who-may/decode", {}),
        (f"/{TOKEN}/{TOKEN}/decode", {}),
        (f"/{TOKEN}/decode", {"Authorization": "Bearer somebody-else"}),
        ("/", {}),
    ],
)
def test_given_nobody_we_know_when_asked_then_refused(
    endpoint: CodecEndpoint, path: str, headers: dict[str, str]
) -> None:
    assert ask(endpoint, path, **headers)[0] == 401


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'{"payloads": 3}', b"\xff\xfe", b'{"other": []}'])
def test_given_nonsense_when_sent_then_refused_in_a_line(endpoint: CodecEndpoint, body: bytes) -> None:
    status, _, told = ask(endpoint, "/decode", body, **BEARER)
    assert (status, told) == (400, b"No payloads in Temporal's JSON")


def test_given_too_much_another_path_or_a_lost_key_when_sent_then_told_which(endpoint: CodecEndpoint) -> None:
    assert ask(endpoint, "/decode", b"", Content_Length=str(LARGEST + 1), **BEARER)[0] == 413
    assert ask(endpoint, "/decode", b"", Content_Length="9" * 5000, **BEARER)[0] == 413
    assert ask(endpoint, "/other", **BEARER)[0] == 404
    sealed = asyncio.run(Encryption(KeyRing(OLD)).encode([Payload(data=b"x")]))[0]
    labels = {name: b64encode(value).decode() for name, value in sealed.metadata.items()}
    body = {"payloads": [{"metadata": labels, "data": b64encode(sealed.data).decode()}]}
    status, _, told = ask(endpoint, "/decode", json.dumps(body), **BEARER)
    assert (status, b"'2025'" in told) == (422, True)


def test_given_pages_when_they_ask_then_only_those_of_the_web_ui_may(endpoint: CodecEndpoint) -> None:
    status, told, _ = ask(endpoint, "/decode", method="OPTIONS", Origin=WEB_UI)
    assert (status, told["access-control-allow-origin"]) == (204, WEB_UI)
    assert "Authorization" in told["access-control-allow-headers"]
    assert "access-control-allow-origin" not in ask(endpoint, "/decode", method="OPTIONS", Origin="http://evil.test")[1]


def test_given_many_at_once_when_they_ask_then_all_are_answered(endpoint: CodecEndpoint) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(endpoint, "/decode", **BEARER)[0], range(64)))
    assert answers == [200] * 64


@pytest.mark.parametrize("token", ["", "short", "with/a/slash/in/its/middle", "with blanks in it, many", "§" * 20])
def test_given_a_token_that_can_not_be_one_when_opened_then_refused(token: str) -> None:
    with pytest.raises(StartupError, match="AMENDS_CODEC_TOKEN wants at least 16"):
        CodecEndpoint(Encryption(KeyRing(NEW)), token, [])
