"""Which engine, client and base image the tests in containers take, and what they say where one is missing."""

import os
import sys
import time
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from pathlib import Path

import engine
import pytest
from engine import Engine, EngineError, open_engine

pytestmark = pytest.mark.unit

BASE = "python:3.13-slim-trixie"
HOST = "unix:///run/there.sock"
NO_ENGINE = {"version": (1, "Cannot connect to the Docker daemon")}
NO_BUILDX = {"buildx": (1, "docker: 'buildx' is not a docker command.")}
NOT_THERE = (1, "Error: No such image")
NOT_TO_BE_HAD = {"image inspect": NOT_THERE, "pull": (1, "no route to host")}
Answers = dict[str, tuple[int, str]]
Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on a PATH that holds nothing else.

    By the start of its arguments it answers with a status and a text; what it does not know it does without a word.
    """
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(engine, "DEBIANS_CLIENT", str(tmp_path / "debians" / "docker"))

    def put(name: str, answers: Answers) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cases = [f'"{start}"*) echo "{text}"; exit {status};;' for start, (status, text) in answers.items()]
        path.write_text(f'#!/bin/sh\necho "$*" >> {path}.log\ncase "$*" in\n{"".join(cases)}\nesac\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


def docker(answers: Answers | None = None, release: str = "28.2.2") -> Answers:
    """A client with an engine, which has the base image, but for what it is to answer otherwise."""
    return {**(answers or {}), "--version": (0, f"Docker version {release}, build 1"), "context": (0, HOST)}


class TestEngine:
    """The engine that the docker command talks to."""

    def test_is_used_where_it_answers(self, program: Program) -> None:
        client = program("docker", docker())
        with open_engine(BASE) as found:
            assert (found.client, found.host, found.base_image) == (str(client), HOST, BASE)

    def test_is_that_of_docker_host_before_that_of_the_context(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program("docker", docker())
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
        with open_engine(BASE) as found:
            assert found.host == "tcp://127.0.0.1:2375"

    @pytest.mark.parametrize("platform", ["linux", "darwin"])
    def test_that_does_not_answer_is_named_with_a_way_out(
        self, platform: str, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program("docker", docker(NO_ENGINE))
        monkeypatch.setattr(sys, "platform", platform)
        with pytest.raises(EngineError, match=r"Start Docker Desktop or the docker service.*-m 'not docker'"):
            open_engine(BASE).__enter__()

    def test_is_missed_in_the_same_words_without_a_docker_command(self, program: Program) -> None:
        with pytest.raises(EngineError, match="none answers here"):
            open_engine(BASE).__enter__()

    def test_is_not_installed_where_a_user_is_not_root(self, program: Program) -> None:
        installer = program("apt-get", {})
        with pytest.raises(EngineError):
            open_engine(BASE).__enter__()
        assert not said(installer)

    def test_that_root_cannot_install_is_named_with_the_installers_words(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program("apt-get", {"-o": (100, "E: Could not resolve mirror.example.com")})
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(EngineError, match=r"Install docker\.io and iptables(.|\n)*Could not resolve"):
            open_engine(BASE).__enter__()

    def test_is_found_by_containers_where_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        assert Engine("docker", "unix:///run/user/1000/docker.sock").socket == "/run/user/1000/docker.sock"
        assert Engine("docker", "tcp://127.0.0.1:2375").socket == "/var/run/docker.sock"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert Engine("docker", "unix:///Users/ann/.docker/run/docker.sock").socket == "/var/run/docker.sock"


class TestTwoEngines:
    """The engine of the tests beside another one on the same machine."""

    def test_have_no_file_bridge_or_address_in_common(self, program: Program) -> None:
        ip = program("ip", {"link show": (1, "Device does not exist.")})
        engine.make_bridge()
        assert said(ip).splitlines() == [
            f"link show {engine.BRIDGE}",
            f"link add name {engine.BRIDGE} type bridge",
            f"address replace {engine.BRIDGE_ADDRESS} dev {engine.BRIDGE}",
            f"link set {engine.BRIDGE} up",
        ]
        assert engine.BRIDGE != "docker0"
        command = engine._daemon()
        options = dict(zip(command[1::2], command[2::2], strict=True))
        assert options["--bridge"] == engine.BRIDGE
        ours = ip_interface(engine.BRIDGE_ADDRESS).network
        networks = ip_network(options["--default-address-pool"].partition("base=")[2].partition(",")[0])
        assert not ours.overlaps(networks)
        # Docker's own pools.
        for default in (ip_network("172.16.0.0/12"), ip_network("192.168.0.0/16")):
            assert not default.overlaps(ours)
            assert not default.overlaps(networks)
        for option in ("--data-root", "--exec-root", "--pidfile"):
            assert Path(options[option]).is_relative_to(engine.PLACE)


class TestClient:
    """The docker command that builds."""

    def test_without_buildx_gives_way_to_an_older_one_that_needs_none(self, program: Program) -> None:
        program("docker", docker(NO_BUILDX))
        older = program("debians/docker", docker(NO_BUILDX, "20.10.24+dfsg1"))
        with open_engine(BASE) as found:
            assert found.client == str(older)

    def test_without_buildx_is_an_error_that_names_the_package(self, program: Program) -> None:
        client = program("docker", docker(NO_BUILDX))
        with pytest.raises(EngineError, match=f"(?s){client}.*docker-buildx"):
            open_engine(BASE).__enter__()


class TestBaseImage:
    """The base image of the Dockerfiles."""

    def test_is_not_pulled_where_it_is_there(self, program: Program) -> None:
        client = program("docker", docker())
        with open_engine(BASE):
            assert "pull" not in said(client)

    def test_is_pulled_where_it_is_not(self, program: Program) -> None:
        client = program("docker", docker({"image inspect": NOT_THERE}))
        with open_engine(BASE) as found:
            assert found.base_image == BASE
        assert f"pull --quiet {BASE}" in said(client)

    def test_is_replaced_by_a_stand_in_that_was_made_before(self, program: Program) -> None:
        program("docker", docker({f"image inspect {BASE}": NOT_THERE}))
        with open_engine(BASE) as found:
            assert found.base_image.startswith("ml-service-template-tests-base:")

    def test_that_cannot_be_pulled_is_named_with_the_engines_words(self, program: Program) -> None:
        program("docker", docker(NOT_TO_BE_HAD))
        with pytest.raises(EngineError, match=f"The base image {BASE} is needed and cannot be pulled: no route to"):
            open_engine(BASE).__enter__()

    def test_that_nothing_can_be_made_to_stand_in_for_is_named_with_both_reasons(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program("docker", docker(NOT_TO_BE_HAD))
        program("apt-get", {})
        program("mmdebstrap", {"--quiet": (25, "E: cannot write")})
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(EngineError, match="cannot be pulled, mmdebstrap failed"):
            open_engine(BASE).__enter__()


class TestLeftovers:
    """What sessions that are gone left in the engine."""

    def test_are_removed_after_an_hour_and_those_of_others_are_not(self, program: Program) -> None:
        old, current = f"{int(time.time()) - 3700}-0123abcd", f"{int(time.time()) - 60}-4567cdef"
        names = [f"ml-service-template-tests/training:{session}" for session in (old, current)]
        networks = [f"ml-service-template-tests-{session}_default" for session in (old, current)]
        answers = {"images": (0, "\n".join(names)), "network ls": (0, "\n".join(networks))}
        client = program("docker", docker(answers))
        with open_engine(BASE):
            commands = said(client).splitlines()
        assert [line for line in commands if " rm" in f" {line}"] == [
            f"rmi --force {names[0]}",
            f"network rm {networks[0]}",
        ]


def said(path: Path) -> str:
    """What a program was called with, a line each."""
    log = path.with_name(f"{path.name}.log")
    return log.read_text(encoding="utf-8") if log.exists() else ""
