"""The self-signed certificate: for this computer's addresses, made once, private."""

import shutil
import ssl
import stat
import subprocess
import time

import pytest

from refine import tls
from refine.tls import TlsError

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")


@needs_openssl
def test_a_certificate_names_this_computer_and_is_made_once() -> None:
    found, key = tls.certificate(["room.example", "0.0.0.0", "192.0.2.7"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found, key)  # they belong together
    command = ["openssl", "x509", "-in", str(found), "-noout", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in (
        "DNS:localhost",
        "DNS:room.example",
        "IP Address:127.0.0.1",
        "IP Address:192.0.2.7",
    ):
        assert name in text
    assert "0.0.0.0" not in text
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = found.stat().st_mtime_ns
    assert tls.certificate(["room.example", "192.0.2.7"])[0] == found
    assert found.stat().st_mtime_ns == made
    assert tls.certificate(["other.example"])[0] != found


@needs_openssl
def test_an_old_certificate_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = tls.certificate()
    made, later = found.stat().st_mtime_ns, time.time() + 360 * 86_400
    monkeypatch.setattr(tls.time, "time", lambda: later)
    again, _ = tls.certificate()
    assert again == found
    assert again.stat().st_mtime_ns != made


def test_a_missing_program_and_its_failure_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TlsError, match="apt-get install openssl"):
        tls.certificate()
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(TlsError, match="openssl failed"):
        tls.certificate()
