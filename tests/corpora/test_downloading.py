"""Downloads from a server of the test's own: resumed, verified, unpacked safely."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import miniature
import pytest

from jaxser import corpora
from jaxser.corpora import downloading
from jaxser.corpora.spec import Download
from jaxser.runtime.errors import InputError


class Server(ThreadingHTTPServer):
    """Serves one body; what it does wrong is set by the test."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = b""
        self.etag = '"1"'
        self.cut_after = []  # bytes to send before hanging up, one per request
        self.honours_range = True
        self.status = None
        self.requests = []  # (Range, If-Range)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/corpus.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((asked, self.headers.get("If-Range")))
        if server.status is not None:
            self.send_error(server.status)
            return
        start = 0
        fresh = self.headers.get("If-Range") in (None, server.etag)
        if asked and server.honours_range and fresh:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(server.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.body)}")
                self.end_headers()
                return
            self.send_response(206)
            last = len(server.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(server.body) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        data = server.body[start:]
        if server.cut_after:
            data = data[: server.cut_after.pop(0)]
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(
            target=functools.partial(server.serve_forever, poll_interval=0.01), daemon=True
        )
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return data.getvalue()


@pytest.fixture
def archive(tmp_path):
    root = miniature.emodb(tmp_path / "source", speakers=("03", "08"))
    return zipped(
        [("erkennung.txt", b"x")]
        + [(p.relative_to(root).as_posix(), p.read_bytes()) for p in sorted(root.glob("wav/*"))]
    )


def spec_of(server, digest=None):
    download = Download(server.url, digest)
    return dataclasses.replace(corpora.get_spec("emodb"), download=(download,))


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def fetch(spec, root):
    return downloading.download(spec, root, pause=0)


def names_beside(root):
    return sorted(path.name for path in root.parent.iterdir())


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "emodb"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_corpus_is_fetched_verified_and_unpacked(server, archive, root, algorithm):
    server.body = archive
    digest = f"{algorithm}:{hashlib.new(algorithm, archive).hexdigest()}"
    message = fetch(spec_of(server, digest), root)
    assert message == f"EmoDB is in {root}. The archive has the published checksum."
    assert len(corpora.load("emodb", root).utterances) == 14
    assert names_beside(root) == ["emodb"]
    record = json.loads((root / "DOWNLOAD.json").read_text())
    expected = {"sha256": sha256(archive)[7:], "bytes": len(archive)}
    assert record == {server.url: expected}


def test_a_folder_that_holds_the_corpus_is_left_alone(server, archive, root):
    server.body = archive
    fetch(spec_of(server), root)
    assert "holds EmoDB already" in fetch(spec_of(server), root)
    assert len(server.requests) == 1


def test_a_folder_that_holds_something_else_is_refused(server, archive, root):
    server.body = archive
    root.mkdir(parents=True)
    (root / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not laid out as EmoDB"):
        fetch(spec_of(server), root)
    assert (root / "thesis.txt").read_text() == "mine"
    assert server.requests == []


def test_an_interrupted_transfer_goes_on_by_itself(server, archive, root):
    server.body = archive
    server.cut_after = [1000, 2000]
    fetch(spec_of(server, sha256(archive)), root)
    assert server.requests == [
        (None, None), ("bytes=1000-", '"1"'), ("bytes=3000-", '"1"'),
    ]  # fmt: skip


def test_a_transfer_that_stops_goes_on_in_the_next_run(server, archive, root):
    server.body = archive
    server.cut_after = [1000, 0]
    with pytest.raises(InputError, match=r"stopped after 1,000 bytes .* run the same"):
        fetch(spec_of(server), root)
    assert not root.exists()
    fetch(spec_of(server, sha256(archive)), root)
    assert server.requests[-1] == ("bytes=1000-", '"1"')
    assert names_beside(root) == ["emodb"]


def test_a_server_that_ignores_ranges_sends_all_again(server, archive, root):
    server.body = archive
    server.cut_after = [1000]
    server.honours_range = False
    fetch(spec_of(server, sha256(archive)), root)
    assert [asked for asked, _ in server.requests] == [None, "bytes=1000-"]


def test_a_file_that_changed_meanwhile_is_not_mixed(server, archive, root):
    server.body = b"another version " * 1000
    server.cut_after = [1000, 0]
    with pytest.raises(InputError, match="stopped after"):
        fetch(spec_of(server), root)
    server.body, server.etag = archive, '"2"'
    fetch(spec_of(server, sha256(archive)), root)
    assert server.requests[-1] == ("bytes=1000-", '"1"')


def test_a_transfer_that_was_complete_is_not_repeated(server, archive, root, monkeypatch):
    server.body = archive
    with monkeypatch.context() as patch:
        patch.setattr(downloading, "_verify", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(spec_of(server), root)
    fetch(spec_of(server, sha256(archive)), root)
    assert server.requests[1:] == [(f"bytes={len(archive)}-", '"1"')]


def test_a_part_longer_than_the_file_is_dropped(server, archive, root):
    server.etag = ""
    server.body = archive + b"tail"
    server.cut_after = [len(archive) + 2, 0]
    with pytest.raises(InputError, match="stopped after"):
        fetch(spec_of(server), root)
    server.body = archive
    fetch(spec_of(server, sha256(archive)), root)


@pytest.mark.parametrize("digest", ["md5:" + "0" * 32, "sha256:" + "0" * 64])
def test_a_wrong_digest_is_refused_and_removed(server, archive, root, digest):
    server.body = archive
    with pytest.raises(InputError, match="is not the archive it should be") as caught:
        fetch(spec_of(server, digest), root)
    assert digest.split(":")[1] in str(caught.value)
    assert not root.exists()
    assert [name for name in names_beside(root) if name.endswith(".part")] == []


def test_without_a_published_digest_the_first_one_is_trusted_and_kept(server, archive, root):
    server.body = archive
    assert "taken on trust" in fetch(spec_of(server), root)
    for path in root.iterdir():
        if path.name == "wav":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        elif path.name != "DOWNLOAD.json":
            path.unlink()
    assert "is the one fetched before" in fetch(spec_of(server), root)
    assert len(corpora.load("emodb", root).utterances) == 14


def test_another_archive_than_the_recorded_one_is_refused(server, archive, root):
    root.mkdir(parents=True)
    record = {server.url: {"sha256": "0" * 64}}
    (root / "DOWNLOAD.json").write_text(json.dumps(record))
    server.body = archive
    with pytest.raises(InputError, match=r"the one in DOWNLOAD\.json is 0000"):
        fetch(spec_of(server), root)
    assert json.loads((root / "DOWNLOAD.json").read_text()) == record
    (root / "DOWNLOAD.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        fetch(spec_of(server), root)


def link(target):
    info = zipfile.ZipInfo("wav/03a01Wa.wav")
    info.create_system = 3
    info.external_attr = (0o120777 << 16) | 0
    return info, target


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (("../evil.wav", b"x"), "leads out of the folder"),
        (("wav/../../evil.wav", b"x"), "leads out of the folder"),
        (("/tmp/evil.wav", b"x"), "leads out of the folder"),
        (("C:/evil.wav", b"x"), "leads out of the folder"),
        (("wav\\..\\evil.wav", b"x"), "leads out of the folder"),
        (link("/etc/passwd"), "is a link"),
    ],
)
def test_evil_archives_are_not_unpacked(server, root, member, fault):
    good = ("wav/03a01Fa.wav", b"x")
    server.body = zipped([good, member])
    with pytest.raises(InputError, match=fault):
        fetch(spec_of(server), root)
    assert not root.exists()
    left = [path for path in root.parent.parent.rglob("*") if "evil" in path.name]
    assert left == []
    assert [n for n in names_beside(root) if "unpacking" in n] == []


def test_an_archive_with_a_name_twice_is_refused(server, root):
    with pytest.warns(UserWarning, match="Duplicate name"):
        server.body = zipped([("wav/03a01Fa.wav", b"x"), ("wav/03a01Fa.wav", b"y")])
    with pytest.raises(InputError, match="twice"):
        fetch(spec_of(server), root)
    assert not root.exists()


def test_archives_that_are_no_zip_or_damaged_or_something_else(server, archive, root):
    server.body = b"<html>no such corpus</html>"
    with pytest.raises(InputError, match="not a sound ZIP archive"):
        fetch(spec_of(server), root)
    flipped = bytearray(archive)
    position = archive.index(b"data", archive.index(b"RIFF")) + 40
    flipped[position] ^= 255
    server.body, server.etag = bytes(flipped), '"2"'
    with pytest.raises(InputError, match="Bad CRC-32"):
        fetch(spec_of(server), root)
    server.body, server.etag = zipped([("cats/cat.png", b"x")]), '"3"'
    with pytest.raises(InputError, match="is not laid out as EmoDB"):
        fetch(spec_of(server), root)
    assert not root.exists()


def test_a_server_that_refuses_or_is_not_there(server, root):
    server.status = 404
    with pytest.raises(InputError, match="the server says 404"):
        fetch(spec_of(server), root)
    spec = spec_of(server)
    gone = Download("http://127.0.0.1:9/corpus.zip", None)
    with pytest.raises(InputError, match="stopped after 0 bytes"):
        fetch(dataclasses.replace(spec, download=(gone,)), root)


def test_a_disk_that_is_too_small_is_noticed_before_unpacking(server, archive, root, monkeypatch):
    server.body = archive
    usage = downloading.shutil.disk_usage(root.anchor)._replace(free=100)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"bytes, but .* has 100 left"):
        fetch(spec_of(server), root)
    assert not root.exists()
    assert [n for n in names_beside(root) if n.endswith(".part")] == [".emodb.corpus.zip.part"]


@pytest.mark.parametrize(
    ("name", "where"),
    [("iemocap", "https://sail.usc.edu/iemocap/"), ("demos", "https://zenodo.org/records/2544829"),
     ("emo_iit", "A new emotional corpus for the Romanian language"),
     ("emovo", "http://voice.fub.it"), ("csv", "your own")],
)  # fmt: skip
def test_other_corpora_say_where_to_get_them(tmp_path, name, where):
    with pytest.raises(InputError) as caught:
        downloading.download(corpora.get_spec(name), tmp_path / "x")
    assert where in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_published_digests_are_well_formed():
    lengths = {"md5": 32, "sha256": 64}
    for name in corpora.names():
        for source in corpora.get_spec(name).download:
            if source.digest is not None:
                algorithm, _, value = source.digest.partition(":")
                assert re.fullmatch(r"[0-9a-f]+", value)
                assert len(value) == lengths[algorithm]


def bytes_of(method, name="wav/03a01Wa.wav"):
    """A ZIP of one file by ``method``, with a byte of its compressed data turned over."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as file:
        file.writestr(name, bytes(range(256)) * 40)
    damaged = bytearray(data.getvalue())
    for place in range(40 + len(name), 60 + len(name)):
        damaged[place] ^= 0xFF
    return bytes(damaged)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_damage_inside_an_archive_is_one_sentence(server, root, method):
    server.body = bytes_of(method)
    with pytest.raises(InputError, match="is not a sound ZIP archive") as caught:
        fetch(spec_of(server), root)
    assert "\n" not in str(caught.value)
    assert names_beside(root) == [".emodb.corpus.zip.part.json"]


@pytest.mark.parametrize("place", range(0, 100, 3))
def test_a_turned_byte_anywhere_in_an_archive_is_no_traceback(server, root, archive, place):
    at = place * len(archive) // 100
    server.body = archive[:at] + bytes([archive[at] ^ 0xFF]) + archive[at + 1 :]
    with contextlib.suppress(InputError):
        fetch(spec_of(server), root)


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "a/b.wav/c.wav"])
def test_names_that_cannot_be_files_are_one_sentence(server, root, name):
    server.body = zipped([("a/b.wav", b"x"), (name, b"x")])
    with pytest.raises(InputError, match=r"holds a name that cannot be|twice") as caught:
        fetch(spec_of(server), root)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("length", [121, 250, 255])
def test_a_folder_may_have_as_long_a_name_as_there_is(server, archive, root, length):
    server.body = archive
    root = root.with_name("n" * length)
    assert "is in" in fetch(spec_of(server), root)
    assert names_beside(root) == [root.name]


@pytest.mark.parametrize("name", ["n" * 256, "a\0b"])
def test_a_folder_that_cannot_be_is_refused_before_anything_is_fetched(server, root, name):
    with pytest.raises(InputError, match="cannot be a folder"):
        fetch(spec_of(server), root.with_name(name) if len(name) > 9 else f"{root.parent}/{name}")
    assert server.requests == []


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{", '"x"', '{"version": 5}', '{"version": "a\\nHost: b"}', "{}", "[" * 100_000],
)
def test_a_bad_note_of_a_part_starts_over(server, archive, root, state):
    server.body = archive
    root.parent.mkdir(parents=True)
    part = root.with_name(".emodb.corpus.zip.part")
    part.write_bytes(b"something else")
    part.with_name(part.name + ".json").write_text(state)
    fetch(spec_of(server), root)
    assert server.requests == [(None, None)]
    assert names_beside(root) == ["emodb"]


@pytest.mark.parametrize("entry", ["{}", '{"bytes": 5}', '{"sha256": null}', '{"sha256": ""}'])
def test_a_record_without_a_digest_proves_nothing(server, archive, root, entry):
    server.body = archive
    root.mkdir(parents=True)
    (root / "DOWNLOAD.json").write_text(f'{{"{server.url}": {entry}}}')
    said = fetch(spec_of(server), root)
    assert "by the SHA-256" not in said
    assert "taken on trust" in said


def test_a_record_of_another_archive_proves_nothing(server, archive, root):
    server.body = archive
    root.mkdir(parents=True)
    (root / "DOWNLOAD.json").write_text(json.dumps({"http://other/x.zip": {"sha256": "0" * 64}}))
    assert "taken on trust" in fetch(spec_of(server), root)


@pytest.mark.parametrize(
    "record", ["[]", "{", '{"URL": 5}', '{"URL": {"sha256": 5}}', '{"URL": {"sha256": "12"}}',
               "[" * 100_000],
)  # fmt: skip
def test_a_bad_record_is_refused_before_anything_is_fetched(server, root, record):
    root.mkdir(parents=True)
    (root / "DOWNLOAD.json").write_text(record.replace("URL", server.url))
    with pytest.raises(InputError, match=r"DOWNLOAD\.json"):
        fetch(spec_of(server), root)
    assert server.requests == []
