"""Downloads from a server on this machine that misbehaves on demand."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from torch_cormorant.data.download import RemoteFile, fetch_file
from torch_cormorant.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, and remembers what it was asked."""

    daemon_threads = True
    cut: int | None = None
    cuts = 0
    status: int | None = None
    content = CONTENT
    etag: str | None = '"one"'
    location: str | None = None
    honest_range = True
    ranges: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.location is not None:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.status is not None:
            self.send_error(server.status)
            return
        start = 0
        if wanted and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if start:
            first = start if server.honest_range else start + 1
            last = len(server.content)
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{last}")
        self.end_headers()
        if server.cuts and server.cut is not None:
            server.cuts -= 1
            body = body[: server.cut]
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.ranges = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def remote(server: Server, **known: object) -> RemoteFile:
    return RemoteFile("file.bin", server.url, **known)  # type: ignore[arg-type]


def test_a_download_is_whole_and_leaves_nothing_else(
    server: Server, tmp_path: Path
) -> None:
    seen: list[int] = []
    path = fetch_file(
        remote(server, size=len(CONTENT), sha256=DIGEST),
        tmp_path / "new",
        progress=lambda done, _: seen.append(done),
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]
    fetch_file(remote(server, size=len(CONTENT), sha256=DIGEST), path.parent)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("known", [{"sha256": DIGEST}, {}])
def test_a_broken_connection_is_resumed(
    server: Server, tmp_path: Path, known: dict[str, str]
) -> None:
    server.cut, server.cuts = 100_000, 2
    path = fetch_file(remote(server, **known), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_goes_on_where_the_first_stopped(
    server: Server, tmp_path: Path
) -> None:
    server.cut, server.cuts = 100_000, 1
    with pytest.raises(DataError, match=r"ended after 100,000 of 512,000 bytes"):
        fetch_file(remote(server, sha256=DIGEST), tmp_path, attempts=1)
    assert not (tmp_path / "file.bin").exists()
    path = fetch_file(remote(server, sha256=DIGEST), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


@pytest.mark.parametrize("etag", ['"two"', None, 'W/"weak"'])
def test_bytes_of_two_versions_are_never_joined(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.cut, server.cuts = 100_000, 1
    if etag != '"two"':
        server.etag = etag
    with pytest.raises(DataError, match="ended after"):
        fetch_file(remote(server), tmp_path, attempts=1)
    server.content, server.etag = CONTENT[::-1], etag
    assert fetch_file(remote(server), tmp_path).read_bytes() == CONTENT[::-1]


def test_a_wrong_digest_is_refused_and_nothing_is_kept(
    server: Server, tmp_path: Path
) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match=f"SHA-256 .*, expected {DIGEST}"):
        fetch_file(remote(server, sha256=DIGEST), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wrong_length_is_refused_before_it_is_fetched(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"offers 512,000 bytes, expected 999"):
        fetch_file(remote(server, size=999), tmp_path)
    with pytest.raises(DataError, match="at most 1,000 are accepted"):
        fetch_file(remote(server, max_size=1000), tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_a_file_that_is_there_is_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="511,999 bytes, expected 512,000"):
        fetch_file(remote(server, size=len(CONTENT)), tmp_path)
    with pytest.raises(DataError, match="expected " + DIGEST):
        fetch_file(remote(server, sha256=DIGEST), tmp_path)
    assert not server.ranges


def test_without_a_known_digest_the_first_one_counts(
    server: Server, tmp_path: Path
) -> None:
    path = fetch_file(remote(server), tmp_path)
    assert (tmp_path / "file.bin.sha256").read_text().split()[0] == DIGEST
    path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match=f"expected {DIGEST}"):
        fetch_file(remote(server), tmp_path)


def test_answers_of_the_server_are_reported(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match="the server answers 404"):
        fetch_file(remote(server), tmp_path)
    assert len(server.ranges) == 1
    server.status = 503
    with pytest.raises(DataError, match=r"answers 503.*put the file into"):
        fetch_file(remote(server), tmp_path)
    assert len(server.ranges) == 4


def test_a_lying_range_is_not_joined(server: Server, tmp_path: Path) -> None:
    server.cut, server.cuts, server.honest_range = 100_000, 1, False
    with pytest.raises(DataError, match="sends bytes from 100001, not 100000"):
        fetch_file(remote(server, sha256=DIGEST), tmp_path)


def test_unverified_addresses_are_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not https"):
        fetch_file(RemoteFile("a", "http://example.org/a"), tmp_path)
    with pytest.raises(ConfigError, match="is not https"):
        fetch_file(RemoteFile("a", "file:///etc/hostname"), tmp_path)
    server.location = "http://example.org/a"
    with pytest.raises(ConfigError, match=r"redirect of .* is not https"):
        fetch_file(remote(server), tmp_path)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refused"):
        fetch_file(RemoteFile("a", "http://127.0.0.1:9/a"), tmp_path, attempts=1)


def test_a_folder_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="cannot be written"):
        fetch_file(remote(server), tmp_path / "taken")


def test_a_server_without_a_trusted_certificate_is_refused(
    server: Server, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate that nobody trusts")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}/file.bin"
    with pytest.raises(DataError, match=r"(?i)certificate"):
        fetch_file(RemoteFile("file.bin", url, sha256=DIGEST), tmp_path / "new")
    assert not server.ranges
    assert not (tmp_path / "new" / "file.bin").exists()


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".file.bin.part").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is downloading this file"):
            fetch_file(remote(server, sha256=DIGEST), tmp_path)
    assert fetch_file(remote(server, sha256=DIGEST), tmp_path).read_bytes() == CONTENT


def test_a_link_in_place_of_the_part_is_not_followed(
    server: Server, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".file.bin.part").symlink_to(victim)
    with pytest.raises(DataError, match="cannot be written"):
        fetch_file(remote(server, sha256=DIGEST), tmp_path / "new")
    assert victim.read_bytes() == b"precious"
