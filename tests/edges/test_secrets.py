"""Secrets come from the environment or files, and are told to nobody: no message, log line or trace has one."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from base64 import b64encode
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from amends.database import open_pool, told_url
from amends.embedded import free_port
from amends.errors import StartupError
from amends.reader import Reader
from amends.settings import Settings
from read_models import order_history

ROOT = Path(__file__).parents[2]

SECRETS = {
    "AMENDS_PAYLOAD_KEYS": "k1:" + b64encode(b"swordfish-payload-key-swordfish!").decode(),
    "AMENDS_CODEC_TOKEN": "swordfish-codec-token",
    "AMENDS_WEBHOOK_SECRET": "swordfish-webhook",
    "AMENDS_SOURCE_URL": "postgresql://me:swordfish-source@localhost/x",
    "AMENDS_OWNER_URL": "postgresql://owner:swordfish-owner@127.0.0.1:1/x",
    "TEMPORAL_API_KEY": "swordfish-api-key",
}

PASSWORD = "swordfish-password"

TELLING = ("swordfish", SECRETS["AMENDS_PAYLOAD_KEYS"].partition(":")[2])
"""What no output may have in it."""

ELSEWHERE = "postgresql://me:{}@127.0.0.1:{}/x"


def said_by(*arguments: str, seconds: float = 60, **environment: str) -> str:
    """All that a command prints and logs, with every secret set and the log at its most talkative."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AMENDS_", "TEMPORAL_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "amends", *arguments],
        cwd=ROOT,
        env={**kept, **SECRETS, "AMENDS_LOG_LEVEL": "debug", "COLUMNS": "300", **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("arguments", "url", "told"),
    [
        (("trace", "x"), f"postgresql://me:{PASSWORD}/x@[", "AMENDS_DATABASE_URL"),
        (("migrate",), ELSEWHERE.format(PASSWORD, 1), "The schema can't be brought up to date"),
        (("export",), ELSEWHERE.format(PASSWORD, 1), "PostgreSQL"),
        (("views", "list"), ELSEWHERE.format(PASSWORD, 1), "PostgreSQL"),
        (("worker",), ELSEWHERE.format(PASSWORD, 1), "No Temporal server answers"),
    ],
)
def test_given_servers_that_do_not_answer_or_can_not_be_when_a_command_fails_then_no_secret_is_told(
    arguments: tuple[str, ...], url: str, told: str
) -> None:
    said = said_by(*arguments, AMENDS_DATABASE_URL=url, AMENDS_TEMPORAL_ADDRESS="127.0.0.1:1")
    assert told in " ".join(said.split()), said
    assert not [secret for secret in TELLING if secret in said]


async def test_given_a_wrong_password_when_connected_then_neither_the_error_nor_its_trace_nor_a_log_tells_it(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # given
    monkeypatch.setattr("amends.database.CONNECT_SECONDS", 0.5)
    caplog.set_level("DEBUG")
    wrong = make_conninfo(database_url, password=PASSWORD)
    traces = []
    # when
    try:
        async with open_pool(wrong, "writer", 1):
            pass
    except Exception as error:  # whatever it is, it must not tell
        traces.append("".join(traceback.format_exception(error)))
    async with Reader(wrong, 1) as reader:
        try:
            await reader.query(order_history.order("o1"))
        except Exception as error:
            traces.append("".join(traceback.format_exception(error)))
    # then
    assert ["password authentication failed" in trace for trace in traces] == [True, True]
    out, err = capfd.readouterr()
    assert PASSWORD not in "".join([*traces, caplog.text, out, err])


def test_given_every_secret_when_settings_are_shown_then_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "AMENDS_DATABASE_URL": ELSEWHERE.format(PASSWORD, 1)}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {vars(settings)}"
    assert not [secret for secret in TELLING if secret in shown]
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    ours = {name.removeprefix("AMENDS_").lower() for name in SECRETS if name.startswith("AMENDS_")}
    assert secret == ours | {"database_url"}  # or one of them is not tried here


def test_given_a_file_that_holds_a_secret_when_settings_are_read_then_it_is_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        if name.startswith("AMENDS_"):
            file = tmp_path / name
            file.write_text(f"{value}\n")
            monkeypatch.setenv(f"{name}_FILE", str(file))
    settings = Settings()
    for name, value in SECRETS.items():
        if name.startswith("AMENDS_"):
            assert getattr(settings, name.removeprefix("AMENDS_").lower()) == SecretStr(value)


def test_given_a_file_that_can_not_be_read_or_a_secret_besides_when_settings_are_read_then_the_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENDS_CODEC_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(StartupError, match=r"^AMENDS_CODEC_TOKEN_FILE: .*nowhere can't be read: No such file"):
        Settings()
    said = said_by("trace", "x", AMENDS_WEBHOOK_SECRET_FILE="/dev/null")
    assert "AMENDS_WEBHOOK_SECRET and AMENDS_WEBHOOK_SECRET_FILE are both set" in said
    assert "Traceback" not in said


def test_given_an_address_when_told_to_people_then_it_leads_there_by_a_file_that_has_the_password(
    database_url: str, tmp_path: Path
) -> None:
    parts = conninfo_to_dict(database_url)
    passfile = tmp_path / "pass file"
    passfile.write_text(f"{parts['host']}:*:*:{parts['user']}:{parts['password']}\n")
    passfile.chmod(0o600)
    told = told_url(database_url, passfile)
    assert str(parts["password"]) not in told
    assert str(parts["password"]) not in told_url(database_url)
    with psycopg.connect(told) as connection:
        assert connection.execute("select current_database()").fetchone() == (parts["dbname"],)


def test_given_a_database_of_one_s_own_when_up_starts_and_fails_then_its_password_is_not_told(tmp_path: Path) -> None:
    url = ELSEWHERE.format(PASSWORD, free_port())
    said = said_by(
        "up", AMENDS_DATABASE_URL=url, AMENDS_TEMPORAL_ADDRESS="127.0.0.1:1", AMENDS_HOME=str(tmp_path / "up")
    )
    assert "The schema can't be brought up to date" in " ".join(said.split()), said
    written = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())
    assert not [secret for secret in TELLING if secret in said + written]
