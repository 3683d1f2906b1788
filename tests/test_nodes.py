"""Where there can be a cluster with nodes, and what is said where there can be none."""

import fcntl
import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import kube_programs
import pytest
from nodes import cluster
from nodes.cluster import ClusterError, open_cluster
from nodes.layout import Node

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("platform", "user"), [("darwin", 0), ("linux", 1000)])
def test_only_root_on_linux_has_nodes(platform: str, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(ClusterError, match="need root on Linux"), open_cluster():
        pass


def test_a_second_cluster_is_refused_and_leaves_the_first_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster, "PACKAGES", {})
    monkeypatch.setattr(cluster, "PLACE", tmp_path)
    monkeypatch.setattr(kube_programs, "programs", lambda: tmp_path)
    (tmp_path / "ml-nodes").mkdir()
    with (tmp_path / "nodes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ClusterError, match="Another cluster of the tests runs"), open_cluster():
            pass
    assert (tmp_path / "ml-nodes").is_dir()


def test_nodes_have_addresses_of_their_own(tmp_path: Path) -> None:
    one, two = Node(1, tmp_path), Node(2, tmp_path)
    assert (one.address, one.pods) == ("10.215.0.11", "10.216.1.0/24")
    assert not {one.address, one.pods, one.cgroup, one.directory} & {two.address, two.pods, two.cgroup, two.directory}


def test_the_image_of_one_program_holds_it() -> None:
    with tarfile.open(fileobj=BytesIO(cluster._image("localhost/pause:1", b"program"))) as image:
        layer = image.extractfile("layer.tar")
        assert layer
        with tarfile.open(fileobj=layer) as files:
            program = files.extractfile("pause")
            assert program
            assert program.read() == b"program"
            assert files.getmember("pause").mode == 0o755
