"""Profiles: where a cluster is found, what goes before what, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lograft.client.cli import local_cluster
from lograft.client.cli.main import main
from lograft.client.cli.profiles import Profile, Profiles, checked_address, goes_before


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("LOGRAFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "lograft" / "profiles.toml"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What commands were told of brokers when they looked for them."""
    seen: list[str | None] = []

    def client_addresses(brokers: str | None) -> list[str]:
        seen.append(brokers)
        raise local_cluster.Refused("far enough")

    monkeypatch.setattr(local_cluster, "client_addresses", client_addresses)
    return seen


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_a_profile_is_made_used_listed_shown_and_deleted(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["profile", "create", "staging", "--brokers", "a:9600,b:9600", "--set", "output=json", "--use"]) == 0
    assert main(["profile", "create", "lab", "--brokers", "c:9600"]) == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    (lab, staging) = shown(capsys, "profile", "list", "-o", "json")
    assert (lab["name"], lab["in_use"]) == ("lab", False)
    assert staging == {
        "name": "staging", "in_use": True, "brokers": ["a:9600", "b:9600"], "defaults": {"output": "json"},
    }  # fmt: skip
    assert main(["profile", "use", "lab"]) == 0
    assert shown(capsys, "profile", "show", "lab", "-o", "json")["in_use"] is True
    assert main(["profile", "delete", "lab"]) == 0
    assert "no profile is now" in capsys.readouterr().err
    assert [one["in_use"] for one in shown(capsys, "profile", "list", "-o", "json")] == [False]


def test_brokers_named_go_before_the_environment_and_that_before_the_profile(
    asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["cluster", "info"])
    Profiles(local_cluster.Path(os.environ["XDG_CONFIG_HOME"]) / "lograft" / "profiles.toml", "lab",
             {"lab": Profile(("c:9600", "d:9600")), "far": Profile(("e:9600",))}).save()  # fmt: skip
    main(["cluster", "info"])
    main(["--profile", "far", "topic", "list"])
    monkeypatch.setenv("LOGRAFT_PROFILE", "far")
    main(["cluster", "info"])
    monkeypatch.setenv("LOGRAFT_BROKERS", "env:1")
    main(["cluster", "info"])
    main(["cluster", "info", "--brokers", "told:1"])
    assert asked == [None, "c:9600,d:9600", "e:9600", "e:9600", "env:1", "told:1"]


def test_a_default_of_a_profile_holds_where_the_option_is_not_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lograft.client.cli.health_command.described_once", lambda *_, **__: None)
    monkeypatch.setattr("lograft.client.cli.health_command.health_as_json", lambda _: {"condition": "healthy"})
    main(["profile", "create", "lab", "--brokers", "c:9600", "--use", "--set", "cluster.health.output=json"])
    assert shown(capsys, "cluster", "health") == {"condition": "healthy"}


def test_a_profile_says_nothing_to_commands_that_mean_something_else_by_brokers(
    asked: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["profile", "create", "lab", "--brokers", "c:9600", "--use"])
    asked.clear()
    assert main(["up", "--log-level", "none"]) == 2  # not: 'c:9600' is not a valid integer
    assert "--log-level" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "a b", "--brokers", "c:1"], "no name"),
        (["create", "x", "--brokers", "c"], "'c' is no address such as broker-1:9600"),
        (["create", "x", "--brokers", "c:99999"], "no address"),
        (["create", "x", "--brokers", "c:1", "--set", "acks"], "not OPTION=VALUE"),
        (["create", "x", "--brokers", "c:1", "--set", "produce.ack=quorum"], "no command has 'produce.ack'"),
        (
            ["create", "x", "--brokers", "c:1", "--set", "produce.acks=most"],
            "acks cannot be 'most': 'most' is not",
        ),
        (["create", "x", "--brokers", "c:1", "--set", "brokers=d:1"], "no command has 'brokers'"),
        (["use"], "name a profile, or say --none"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], home: Path, arguments: list[str], told: str
) -> None:
    assert main(["profile", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not home.exists()


def test_a_profile_that_is_not_there_is_refused_and_never_passed_over(
    capsys: pytest.CaptureFixture[str], asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--profile", "production", "topic", "list"]) == 1
    assert "no profile 'production'; there are: none yet" in capsys.readouterr().err
    monkeypatch.setenv("LOGRAFT_PROFILE", "production")
    assert main(["topic", "list"]) == 1
    main(["profile", "create", "production", "--brokers", "c:1"])
    assert asked == ["c:1"]  # nothing but this came as far as asking where brokers are


def test_one_name_is_not_given_twice_unless_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    main(["profile", "create", "lab", "--brokers", "c:1"])
    assert main(["profile", "create", "lab", "--brokers", "d:1"]) == 1
    assert "--replace" in capsys.readouterr().err
    assert main(["profile", "create", "lab", "--brokers", "d:1", "--replace"]) == 0
    assert Profiles.load().by_name["lab"].brokers == ("d:1",)


@pytest.mark.parametrize("text", ["in_use = 'x'\n", "[profile.x]\n", "profile = 3\n", "\x00", "in_use =\n"])
def test_a_file_that_cannot_be_understood_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], home: Path, text: str
) -> None:
    home.parent.mkdir(parents=True)
    home.write_text(text)
    assert main(["topic", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(home) in line


def test_names_and_values_survive_the_file(home: Path) -> None:
    kept = {"a.b": Profile(("[::1]:9600", "h:1"), {"consume.format": '%k\\t"%v"\\n', "output": "ö"})}
    Profiles(home, "a.b", kept).save()
    assert Profiles.load(home) == Profiles(home, "a.b", kept)


@pytest.mark.parametrize("address", ["h:0", "h:65536", "h", ":1", "a b:1", "h:1,i:2", "http://h:1", "::1:9600"])
def test_what_is_no_address_is_none(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        checked_address(address)


HERE = ["127.0.0.1:9600", "127.0.0.1:9610"]


def test_whoever_starts_a_cluster_is_told_what_sends_commands_elsewhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert goes_before(HERE) is None, "there is nothing"
    kept = {"lab": Profile(("c:9600",)), "here": Profile(("127.0.0.1:9610",))}
    Profiles(home, None, kept).save()
    assert goes_before(HERE) is None, "none is in use"
    Profiles(home, "here", kept).save()
    assert goes_before(HERE) is None, "it means this very cluster"
    Profiles(home, "lab", kept).save()
    assert goes_before(HERE) == (
        "the profile in use, lab, sends commands to c:9600, not here; `lograft profile use --none`, or say --brokers "
        "127.0.0.1:9600,127.0.0.1:9610"
    )
    monkeypatch.setenv("LOGRAFT_PROFILE", "here")
    assert goes_before(HERE) is None
    monkeypatch.setenv("LOGRAFT_PROFILE", "lab")
    assert (goes_before(HERE) or "").startswith("LOGRAFT_PROFILE=lab sends commands to c:9600, not here; unset it")
    monkeypatch.setenv("LOGRAFT_BROKERS", "d:1, 127.0.0.1:9600")
    assert goes_before(HERE) is None
    monkeypatch.setenv("LOGRAFT_BROKERS", "d:1")
    assert (goes_before(HERE) or "").startswith("LOGRAFT_BROKERS sends commands to d:1, not here")


# Completion ---------------------------------------------------------------------------------------------------------


def completed(*words: str, shell: str = "bash") -> list[str]:
    asking = {"COMP_WORDS": " ".join(["lograft", *words]), "COMP_CWORD": str(len(words))}
    environment = {**os.environ, **asking, "_LOGRAFT_COMPLETE": f"complete_{shell}"}
    command = [sys.executable, "-P", "-m", "lograft.client.cli.main"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.split()


def test_the_shell_completes_commands_options_and_profiles() -> None:
    main(["profile", "create", "laboratory", "--brokers", "c:1"])
    assert completed("to") == ["top", "topic"] or completed("to") == ["topic", "top"]
    assert completed("topic", "de") == ["describe", "delete"]
    assert "--acks" in completed("produce", "--a")
    assert completed("produce", "--acks", "q") == ["quorum"]
    assert completed("profile", "use", "la") == ["laboratory"]


def test_a_cluster_that_does_not_answer_completes_nothing_and_says_nothing() -> None:
    assert completed("topic", "describe", "--brokers", "127.0.0.1:1", "or") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_us_by_the_variable_that_we_know(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    assert f"_LOGRAFT_COMPLETE=complete_{shell}" in capsys.readouterr().out
    assert main(["completion", "tcsh"]) == 2


def test_an_installed_script_is_where_the_shell_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["completion", "fish", "--install"]) == 0
    assert "_LOGRAFT_COMPLETE" in (tmp_path / ".config/fish/completions/lograft.fish").read_text()
