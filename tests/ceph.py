"""Run tests against Ceph, a second S3 server that has nothing in common with moto.

It takes the Debian packages radosgw, ceph-mon, ceph-osd and ceph-common, and no rights of root::

    python tests/ceph.py tests/test_stores.py tests/test_uploads.py

starts one monitor, one storage daemon that keeps all in memory, and one gateway on loopback; runs pytest with the words
that are given, and stops them.  It takes some seconds to start, and as many to stop.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

KEY, SECRET = "AKFILEBROKER", "SKFILEBROKER"
_SECONDS = 60
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
run dir = {place}
admin socket = {place}/$name.$pid.asok
log file = {place}/$name.log
pid file = {place}/$name.pid
keyring = {place}/keyring
crash dir = {place}
[mon]
mon data = {place}/mon
[osd]
osd data = {place}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
ms bind ipv4 = true
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{ports[2]}
rgw data = {place}/rgw
rgw thread pool size = 32
rgw dynamic resharding = false
rgw run sync thread = false
"""


@contextlib.contextmanager
def ceph() -> Iterator[str]:
    """Start Ceph, and give the endpoint of its gateway."""
    with tempfile.TemporaryDirectory(prefix="fb-ceph-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        try:
            yield _start(place)
        finally:
            for file in place.glob("*.pid"):
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGKILL)


def _start(place: Path) -> str:
    for part in ("mon", "osd", "rgw"):
        (place / part).mkdir()
    ports = _free_ports(3)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    (place / "ceph.conf").write_text(_CONFIGURATION.format(fsid=fsid, ports=ports, place=place))

    def run(line: str) -> str:
        done = subprocess.run(line.split("|"), cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{line} failed: {done.stderr}")
        return done.stdout

    everything = "--cap|mon|allow *|--cap|osd|allow *|--cap|mgr|allow *"
    run("ceph-authtool|--create-keyring|keyring|--gen-key|-n|mon.|--cap|mon|allow *")
    run(f"ceph-authtool|keyring|--gen-key|-n|client.admin|{everything}")
    addresses = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    run(f"monmaptool|--create|--clobber|--fsid|{fsid}|--addv|a|{addresses}|monmap")
    run("ceph-mon|-c|ceph.conf|--mkfs|-i|a|--monmap|monmap|--keyring|keyring")
    run("ceph-mon|-c|ceph.conf|-i|a")
    run(f"ceph|-c|ceph.conf|osd|new|{osd}")
    for who, what in {"osd.0": "mon|allow profile osd|osd|allow *", "client.rgw": "mon|allow rw|osd|allow rwx"}.items():
        with (place / "keyring").open("a") as keyring:
            keyring.write(run(f"ceph|-c|ceph.conf|auth|get-or-create|{who}|{what}"))
    run(f"ceph-osd|-c|ceph.conf|-i|0|--mkfs|--osd-uuid|{osd}")
    run("ceph-osd|-c|ceph.conf|-i|0")
    run("radosgw|-c|ceph.conf|-n|client.rgw")
    endpoint = f"http://127.0.0.1:{ports[2]}"
    _wait_for(endpoint)
    admin = "radosgw-admin|-c|ceph.conf|-n|client.rgw"
    run(f"{admin}|user|create|--uid=fb|--display-name=fb|--access-key={KEY}|--secret-key={SECRET}")
    return endpoint


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def _wait_for(endpoint: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(endpoint, timeout=5):
            return
        time.sleep(0.1)
    raise SystemExit(f"Ceph's gateway did not answer at {endpoint} within {_SECONDS} s")


def main() -> int:
    """Run pytest against Ceph; give its exit status."""
    with ceph() as endpoint:
        who = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        environment = os.environ | {"FILEBROKER_TEST_S3": endpoint} | who
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
