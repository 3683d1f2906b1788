"""Settings: service.toml, overridden by the environment, overridden by arguments; faults are named one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from mlplatform.config.settings import Section, SettingsError, load


class Example(Section, section="example"):
    port: int = Field(default=80, ge=1, le=65535)
    host: str = "localhost"


class Closed(Section, section="closed", closed=True):
    port: int = 80


class Renamed(Section, section="renamed", closed=True):
    former: ClassVar[Mapping[str, str | None]] = {"size": "length", "colour": None}
    length: int = 1


@pytest.fixture
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "service.toml"
    path.write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(path))
    return path


def test_a_setting_comes_from_the_file_before_the_default(service_toml: Path) -> None:
    service_toml.write_text("[example]\nport = 81\n")
    assert load(Example) == Example(port=81, host="localhost")


def test_the_environment_overrides_the_file(service_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_toml.write_text("[example]\nport = 81\n")
    monkeypatch.setenv("EXAMPLE_PORT", "82")
    assert load(Example).port == 82


def test_an_argument_overrides_the_environment(service_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "82")
    assert load(Example, {"port": "83"}).port == 83


def test_every_fault_is_named_with_its_value_its_source_and_what_is_allowed(
    service_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_toml.write_text("[example]\nhost = 5\nprot = 1\n")
    monkeypatch.setenv("EXAMPLE_PORT", "70000")
    with pytest.raises(SettingsError) as error:
        load(Example)
    assert sorted(str(error.value).splitlines()) == [
        f"example.host = 5 ({service_toml}): input should be a valid string",
        "example.port = '70000' (environment variable EXAMPLE_PORT): input should be less than or equal to 65535",
        f"example.prot ({service_toml}): no such setting; [example] has: port, host",
    ]


def test_a_closed_section_refuses_variables_that_name_no_setting(
    service_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOSED_PROT", "1")
    with pytest.raises(
        SettingsError, match=r"^environment variable CLOSED_PROT: no such setting; \[closed\] has: port$"
    ):
        load(Closed)


class TestNamesOfEarlierReleases:
    def test_in_the_file_still_count_and_the_new_one_is_named(
        self, service_toml: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        service_toml.write_text("[renamed]\nsize = 2\n")
        assert load(Renamed).length == 2
        assert caplog.messages == [f"{service_toml}: [renamed] size: it is called length now; rename it there"]

    def test_in_the_environment_still_count_before_the_file(
        self, service_toml: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        service_toml.write_text("[renamed]\nlength = 2\n")
        monkeypatch.setenv("RENAMED_SIZE", "3")
        assert load(Renamed).length == 3
        assert caplog.messages == [
            "environment variable RENAMED_SIZE: it is called RENAMED_LENGTH now; rename it there"
        ]

    def test_give_way_to_the_new_ones(self, service_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        service_toml.write_text("[renamed]\nsize = 2\nlength = 4\n")
        assert load(Renamed).length == 4
        monkeypatch.setenv("RENAMED_SIZE", "3")
        monkeypatch.setenv("RENAMED_LENGTH", "5")
        assert load(Renamed).length == 5

    def test_that_nothing_reads_any_more_are_left_out(
        self, service_toml: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        service_toml.write_text('[renamed]\ncolour = "red"\n')
        assert load(Renamed).length == 1
        assert caplog.messages == [f"{service_toml}: [renamed] colour: nothing reads it any more; remove it"]

    def test_are_checked_like_the_new_ones(self, service_toml: Path) -> None:
        service_toml.write_text('[renamed]\nsize = "long"\n')
        with pytest.raises(SettingsError, match=r"renamed\.length = 'long'"):
            load(Renamed)


def test_a_missing_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml: no such file; run from the repository's root"):
        load(Example)


@pytest.mark.parametrize(("content", "message"), [("[", "not valid TOML"), ("example = 1", r"must be a section")])
def test_a_broken_file_is_said(service_toml: Path, content: str, message: str) -> None:
    service_toml.write_text(content)
    with pytest.raises(SettingsError, match=message):
        load(Example)
