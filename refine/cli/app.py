"""`refine app`: the dashboard."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from refine import paths

Flag = tyro.conf.FlagCreatePairsOff[bool]


class AppError(ValueError):
    """The dashboard cannot be started."""


@dataclass(frozen=True)
class App:
    """Serve the dashboard on http://localhost:8501."""

    host: str = "localhost"
    """The address to listen on. localhost serves this computer alone; 0.0.0.0 everyone in the
    network, who can then read what this account can read."""
    port: int = 8501
    """The port to serve on."""
    no_browser: Annotated[Flag, tyro.conf.arg(name="no-browser")] = False
    """Do not open a browser window."""

    tls: Flag = False
    """Serve https with a self-signed certificate, so that browsers of other computers and phones
    in the network may use their microphones. They warn once."""

    def run(self) -> int:
        """Become the server. Returns its exit code where the system has no exec."""
        page = paths.ROOT / "app.py"
        if not page.is_file():
            raise AppError(f"{page}: not found; run `refine app` from a clone of the repository")
        command = [sys.executable, "-m", "streamlit", "run", str(page)]
        command += ["--server.address", self.host, "--server.port", str(self.port)]
        if self.tls:
            from refine.tls import certificate

            found, key = certificate([self.host])
            command += ["--server.sslCertFile", str(found), "--server.sslKeyFile", str(key)]
        if self.no_browser:
            command += ["--server.headless", "true"]
        os.chdir(paths.ROOT)  # where .streamlit/config.toml is
        sys.stdout.flush()
        if os.name != "nt":
            os.execv(command[0], command)
        return subprocess.call(command)
