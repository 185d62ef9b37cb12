"""Nagle's algorithm is off where the server listens, where it is connected, and nowhere else."""

import socket

from refine import sockets


def nodelay(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_listeners_their_connections_and_later_ones_send_at_once() -> None:
    with socket.socket() as listener, socket.socket() as early, socket.socket() as late:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        early.connect(listener.getsockname())
        served, _ = listener.accept()
        assert not nodelay(listener)
        assert not nodelay(served)
        assert sockets.send_at_once() >= 2
        assert nodelay(listener)
        assert nodelay(served)
        assert not nodelay(early)  # the other end is not ours to set
        late.connect(listener.getsockname())
        inherited, _ = listener.accept()
        with inherited, served:
            assert nodelay(inherited)
            assert sockets.send_at_once() >= 3  # again does no harm


def test_a_system_that_names_no_sockets_is_left_as_it_is(monkeypatch) -> None:
    class Closed:
        def net_connections(self, kind: str) -> list:
            raise sockets.psutil.AccessDenied

    monkeypatch.setattr(sockets.psutil, "Process", Closed)
    assert sockets.send_at_once() == 0
