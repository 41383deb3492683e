"""Downloads that are verified, resumed and written whole or not at all.

Not by pooch (1.9 was looked at): it starts a broken download of 1 GB anew, follows
redirects away from https, accepts any length where no digest is known and does not stop
a second process, so that most of this file would stand beside it as a downloader of our
own, with three more dependencies. What its processors unpack has no limit of size.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from torch_cormorant.data.files import file_digest, write_atomically
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["RemoteFile", "fetch_file"]

#: What to do about a file of a data set that is not there, for messages.
DOWNLOAD = "download=True fetches it"

_CHUNK = 1 << 18
_DIGEST_LENGTH = 64
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network, and what is known of its contents.

    Args:
        name: Name of the file on the disk.
        url: Address, https.
        size: Its length in bytes, where known.
        sha256: Its digest, hexadecimal, where known.
        max_size: Most bytes to accept where ``size`` is not known; default 4 GiB.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    max_size: int = 4 << 30


def fetch_file(
    remote: RemoteFile,
    folder: Path,
    *,
    attempts: int = 3,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Path:
    """Download a file, or go on with a download that was interrupted.

    The server's certificate is checked, also after redirects. The bytes lie in
    ``.NAME.part`` until their number and digest are right; only then does the file get
    its name. Where no digest is known, the one of the first download is written to
    ``NAME.sha256`` and every later download must have it too.

    Args:
        remote: What to download.
        folder: Where to; made if missing.
        attempts: How often to try when the connection breaks.
        timeout: Seconds without any byte after which it counts as broken.
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        The file.

    Raises:
        ConfigError: The address is not https.
        DataError: The file cannot be had, or is not what it should be.
    """
    _check_url(remote.url, remote.name)
    target = folder / remote.name
    expected = remote.sha256 or _recorded_digest(target)
    if target.exists():
        _check_file(target, remote, expected)
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download = _Download(remote, folder, timeout, progress or (lambda *_: None))
        with download.locked() as stream:
            download.fill(stream, attempts)
            try:
                found = _check_file(download.part, remote, expected)
            except DataError:
                download.forget()
                raise
            download.part.replace(target)
        download.forget()
        if expected is None:
            _record_digest(target, found)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error})") from error
    return target


class _Download:
    """One file on its way: the bytes that are there, and the version they are of."""

    def __init__(
        self, remote: RemoteFile, folder: Path, timeout: float, progress: Progress
    ) -> None:
        self.remote, self.timeout, self.progress = remote, timeout, progress
        self.part = folder / f".{remote.name}.part"
        self.note = folder / f".{remote.name}.part.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """The bytes that are there, open for more; one process at a time."""
        with open(self.part, "ab", opener=_no_links) as stream:
            try:
                import fcntl
            except ImportError:  # not on Windows
                yield stream
                return
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(
                    f"{self.part}: another process is downloading this file; wait for "
                    "it"
                ) from None
            yield stream

    def forget(self) -> None:
        """Delete what is there."""
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)

    def fill(self, stream: BinaryIO, attempts: int) -> None:
        """Bring the part to its full length."""
        problem = ""
        for _ in range(max(1, attempts)):
            try:
                problem = self._continue(stream)
            except urllib.error.HTTPError as error:
                problem = f"the server answers {error.code} {error.reason}"
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    stream.truncate(0)  # what is there belongs to another version
                elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    break
            except urllib.error.URLError as error:
                problem = str(error.reason)
                if isinstance(error.reason, ssl.SSLCertVerificationError):
                    break
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
            if not problem:
                return
        raise DataError(
            f"{self.remote.name}: cannot be downloaded from {self.remote.url}: "
            f"{problem}; try again later (it goes on where it stopped), or put the "
            f"file into {self.part.parent} yourself"
        )

    def _continue(self, stream: BinaryIO) -> str:
        """One connection; returns what is wrong, empty when all bytes are there."""
        remote = self.remote
        start, tag = stream.seek(0, os.SEEK_END), self._tag()
        if start and start == remote.size:
            return ""
        if start and tag is None and remote.sha256 is None:
            # Nothing could tell whether old and new bytes belong together.
            start = 0
            stream.truncate(0)
        with _open(remote.url, start, tag, self.timeout) as response:
            done = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            total = self._total(response, done)
            first = response.headers.get("Content-Range", "").removeprefix("bytes ")
            first = first.partition("-")[0]
            if done and first != str(done):
                return f"the server sends bytes from {first or 'nowhere'}, not {done}"
            if not done:
                stream.truncate(0)
                self._remember(response.headers.get("ETag"))
            limit = remote.size or total or remote.max_size
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > limit:
                    stream.truncate(0)
                    raise DataError(
                        f"{remote.name}: {remote.url} sends more than {limit:,} bytes"
                    )
                stream.write(chunk)
                self.progress(done, total)
        stream.flush()
        if total is not None and done < total:
            return f"the connection ended after {done:,} of {total:,} bytes"
        return ""

    def _tag(self) -> str | None:
        """Version of the bytes that are there, if they are of this address."""
        try:
            note = json.loads(self.note.read_text())
            same = note["url"] == self.remote.url
            return str(note["etag"]) if same and note["etag"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, etag: str | None) -> None:
        """Note which version the bytes are of. A weak tag is none."""
        strong = None if etag is None or etag.startswith("W/") else etag
        text = json.dumps({"url": self.remote.url, "etag": strong}).encode()
        write_atomically(self.note, lambda stream: stream.write(text))

    def _total(self, response: http.client.HTTPResponse, start: int) -> int | None:
        """Length of the whole file by what the server says; refuses a wrong one."""
        length, known = response.headers.get("Content-Length"), self.remote
        if length is None or not length.isdigit():
            return None
        total = start + int(length)
        offer = f"{known.name}: {known.url} offers {total:,} bytes"
        if known.size is not None and total != known.size:
            raise DataError(
                f"{offer}, expected {known.size:,}; the file there is another one"
            )
        if total > known.max_size:
            raise DataError(f"{offer}, at most {known.max_size:,} are accepted")
        return total


def _no_links(path: str, flags: int) -> int:
    """Open a file that may be there, unless it is a link to another place."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to verified addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_url(newurl, f"redirect of {req.full_url}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _check_url(url: str, name: str) -> None:
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not local:
        raise ConfigError(
            f"{name}: {url} is not https, so nobody could tell who answers; use an "
            "https address"
        )


def _open(
    url: str, start: int, tag: str | None, timeout: float
) -> http.client.HTTPResponse:
    headers = {"User-Agent": "torch-cormorant", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        headers |= {} if tag is None else {"If-Range": tag}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  checked above
    verified = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    opener = urllib.request.build_opener(verified, _HttpsOnly())
    response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    return response


def _check_file(path: Path, remote: RemoteFile, expected: str | None) -> str:
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise DataError(
            f"{path}: {size:,} bytes, expected {remote.size:,}; delete it and get it "
            "again"
        )
    found = file_digest(path)
    if expected is not None and found != expected:
        raise DataError(
            f"{path}: SHA-256 {found}, expected {expected}: this is not the file it "
            f"should be; delete it and get it again from {remote.url}"
        )
    return found


def _recorded_digest(target: Path) -> str | None:
    try:
        words = target.with_name(f"{target.name}.sha256").read_text("utf-8-sig").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words and len(words[0]) == _DIGEST_LENGTH else None


def _record_digest(target: Path, digest: str) -> None:
    line = f"{digest}  {target.name}\n".encode()
    write_atomically(
        target.with_name(f"{target.name}.sha256"), lambda stream: stream.write(line)
    )
