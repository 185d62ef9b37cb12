"""A self-signed certificate, so that a browser in the same network may use its microphone here.

Browsers give a microphone to `localhost` and to https alone. The certificate is made by the
`openssl` program for this computer's names and addresses, is kept in the cache, and says nothing
about who we are: each browser warns once, and a person decides.
"""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from refine import paths

DAYS = 365
RENEW_S = 7 * 86_400.0  # s before its end at which a new one is made
ANY = ("0.0.0.0", "::", "")


class TlsError(ValueError):
    """A certificate that cannot be made. The message says what to install."""


def certificate(hosts: Sequence[str] = ()) -> tuple[Path, Path]:
    """Certificate and key for this computer; made once, again when it ends or addresses change.

    Args:
        hosts: names or addresses beside the computer's own.
    Raises: `TlsError` without the openssl program, or when it fails.
    """
    names, addresses = known(hosts)
    digest = hashlib.sha256("\n".join([*names, "", *addresses]).encode()).hexdigest()[:12]
    folder = paths.cache() / "tls"
    found, key = folder / f"{digest}.crt", folder / f"{digest}.key"
    if found.is_file() and key.is_file():
        age = time.time() - found.stat().st_mtime
        if age < DAYS * 86_400 - RENEW_S:
            return found, key
    program = shutil.which("openssl")
    if program is None:
        raise TlsError(
            "tls: the openssl program makes the certificate and is not installed; install it "
            "(Debian and Ubuntu: apt-get install openssl), or serve localhost without --tls"
        )
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    listed = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    part = folder / f".{digest}.{os.getpid()}"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-sha256", "-days", str(DAYS), "-subj", "/CN=refine on this computer"]
    command += ["-addext", f"subjectAltName={','.join(listed)}"]
    command += ["-keyout", f"{part}.key", "-out", f"{part}.crt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise TlsError(f"tls: openssl failed ({lines[-1]}); serve localhost without --tls")
    Path(f"{part}.key").chmod(0o600)
    os.replace(f"{part}.key", key)
    os.replace(f"{part}.crt", found)
    return found, key


def known(hosts: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Names and addresses by which this computer is reached."""
    names = {"localhost", platform.node()} - {""}
    addresses = {"127.0.0.1", "::1"}
    for found in psutil.net_if_addrs().values():
        for one in found:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                addresses.add(one.address.partition("%")[0])
    for host in hosts:
        if host in ANY:
            continue
        (addresses if _is_address(host) else names).add(host)
    return sorted(names), sorted(addresses)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
