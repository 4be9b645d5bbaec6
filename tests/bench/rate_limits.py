#!/usr/bin/env python3
"""Measures --up and --down: the mean over every window of ten seconds, for several limits and numbers of peers.

    cargo build --release
    tests/bench/rate_limits.py target/release/ropewalk            # all rows, about five minutes
    tests/bench/rate_limits.py target/release/ropewalk up 20K 20  # one row

The other side is a process of its own here: 1 or 20 peers on loopback that take and give whatever they can. The book is
zeros, so that every piece has the same hash. What is sent to us is counted where it comes out of the socket. What is
read from us is what the system has received for the program less what waits there to be read (`ss`, from iproute2):
the limit is on what the program reads, and the system's buffers run ahead of it.
A row starts counting two seconds after the first block; windows begin every 100 ms.
"""

import hashlib
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BLOCK = 16384
WINDOW = 10.0
SECONDS = 15.0
UNITS = {"K": 1 << 10, "M": 1 << 20}


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, dict):
        return b"d" + b"".join(bencode(k) + bencode(v) for k, v in sorted(value.items())) + b"e"
    raise TypeError(value)


def book(folder, size, piece):
    digest = hashlib.sha1(bytes(piece)).digest()
    info = {b"length": size, b"name": b"zeros", b"piece length": piece, b"pieces": digest * (size // piece)}
    path = os.path.join(folder, "zeros.torrent")
    with open(path, "wb") as file:
        file.write(bencode({b"info": info}))
    return path, hashlib.sha1(bencode(info)).digest()


def read_by_program():
    """Bytes that the program at the other end has read, by (its port, our port): what its kernel received less what waits."""
    found = {}
    lines = subprocess.run(["ss", "-HtinO", "state", "established"], capture_output=True, text=True, check=True).stdout
    for line in lines.splitlines():
        words = line.split()
        ports = tuple(int(words[n].rsplit(":", 1)[1]) for n in (2, 3))
        received = next((word for word in words if word.startswith("bytes_received:")), ":0")
        found[ports] = int(received.split(":")[1]) - int(words[0])
    return found


class Peer:
    """One connection: greets, then takes (requests blocks again and again) or gives (answers requests)."""

    def __init__(self, sock, info_hash, number, pieces, piece):
        self.sock, self.pieces, self.piece = sock, pieces, piece
        self.out = bytearray(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0100-%012d" % number)
        self.into = bytearray()
        self.greeted = False
        self.asked = 0
        self.skip = 0
        self.got = 0

    def say(self, kind, rest=b""):
        self.out += struct.pack(">IB", 1 + len(rest), kind) + rest

    def ask(self, count):
        for _ in range(count):
            at = self.asked * BLOCK % (self.pieces * self.piece)
            self.asked += 1
            self.say(6, struct.pack(">III", at // self.piece, at % self.piece, BLOCK))

    def read(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("closed")
        self.got += len(data)
        passed = min(self.skip, len(data))
        self.skip -= passed
        self.into += data[passed:]
        while True:
            if not self.greeted:
                if len(self.into) < 68:
                    return
                del self.into[:68]
                self.greeted = True
            if len(self.into) < 5:
                return
            length, kind = struct.unpack_from(">IB", self.into)
            if length == 0:
                del self.into[:4]
                continue
            if kind == 7 and len(self.into) >= 13:
                self.skip = max(0, 4 + length - len(self.into))
                del self.into[: 4 + length]
                self.ask(1)
                continue
            if len(self.into) < 4 + length:
                return
            body = bytes(self.into[5 : 4 + length])
            del self.into[: 4 + length]
            if kind == 1 and self.asked == 0:
                self.ask(64)
            if kind == 6:
                self.out += struct.pack(">IB", 9 + BLOCK, 7) + body[:8] + bytes(BLOCK)

    def write(self):
        if self.out:
            sent = self.sock.send(memoryview(self.out)[: 1 << 18])
            del self.out[:sent]


def run(binary, way, rate_text, count):
    rate = int(rate_text[:-1]) * UNITS[rate_text[-1]]
    piece = 1 << 20 if rate > 1 << 20 else 1 << 15
    need = int(rate * (SECONDS + 8)) if way == "down" else 64 * piece
    pieces = max(need // piece, 64)
    folder = tempfile.mkdtemp(prefix="rates", dir=os.environ.get("TMPDIR"))
    torrent, info_hash = book(folder, pieces * piece, piece)
    data = os.path.join(folder, "zeros")
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    common = ["--bind", "127.0.0.1", "--json", f"--{way}", rate_text]
    if way == "up":
        with open(data, "wb") as file:
            file.truncate(pieces * piece)
        command = [binary, "seed", "--port", "0", *common, torrent, folder]
    else:
        command = [binary, "get", "--port", "0", "-o", os.path.join(folder, "copy"), *common]
        # Every peer has an address of its own for the program: 127.0.0.1 with its port.
        listeners = [listener] + [socket.create_server(("127.0.0.1", 0)) for _ in range(count - 1)]
        for other in listeners:
            command += ["--peer", "127.0.0.1:%d" % other.getsockname()[1]]
        command.append(torrent)
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        peers = []
        if way == "up":
            line = program.stdout.readline()
            port = int(line.split(b'"port":')[1].split(b",")[0].split(b"}")[0])
            time.sleep(1)
            for number in range(count):
                sock = socket.create_connection(("127.0.0.1", port))
                peers.append(Peer(sock, info_hash, number, pieces, piece))
                peers[-1].say(2)
        else:
            for number, other in enumerate(listeners):
                sock = other.accept()[0]
                peers.append(Peer(sock, info_hash, number, pieces, piece))
                field = b"\xff" * (pieces // 8)
                if pieces % 8:
                    field += bytes([0xFF << (8 - pieces % 8) & 0xFF])
                peers[-1].say(5, field)
                peers[-1].say(1)
        os.set_blocking(program.stdout.fileno(), False)
        return measure(program, way, rate, peers)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
        shutil.rmtree(folder, ignore_errors=True)


def measure(program, way, rate, peers):
    selector = selectors.DefaultSelector()
    for peer in peers:
        peer.sock.setblocking(False)
        selector.register(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
    samples, first, due = [], None, time.monotonic()
    shares = None
    while first is None or time.monotonic() < first + 2 + SECONDS:
        for key, events in selector.select(0.01):
            peer = key.data
            try:
                if events & selectors.EVENT_READ:
                    peer.read()
                if events & selectors.EVENT_WRITE:
                    peer.write()
            except BlockingIOError:
                pass
        for peer in peers:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.out else 0)
            if selector.get_key(peer.sock).events != wanted:
                selector.modify(peer.sock, wanted, peer)
        now = time.monotonic()
        if now < due:
            continue
        due = now + 0.1
        try:
            program.stdout.read(1 << 20)
        except (BlockingIOError, TypeError):
            pass
        read = read_by_program() if way == "down" else {}
        each = [passed(peer, way, read) for peer in peers]
        now = time.monotonic()
        if first is None and sum(each) > len(each) * 200 + BLOCK // 2:
            first = now
        if first is not None and now >= first + 2:
            samples.append((now, sum(each)))
            shares = shares or each
    means = []
    for at, (began, before) in enumerate(samples):
        after = next(((then, total) for then, total in samples[at:] if then >= began + WINDOW), None)
        if after:
            means.append((after[1] - before) / (after[0] - began) / rate)
    whole = (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]) / rate
    served = sorted(then - before for then, before in zip(each, shares))
    total = max(sum(served), 1)
    return min(means), max(means), whole, served[0] / total, served[-1] / total, cpu(program.pid)


def passed(peer, way, read):
    if way == "up":
        return peer.got
    return read.get((peer.sock.getpeername()[1], peer.sock.getsockname()[1]), 0)


def cpu(pid):
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def main():
    binary = os.path.abspath(sys.argv[1])
    rows = [(way, rate, count) for way in ("up", "down") for rate, count in (("100M", 20), ("20K", 1), ("20K", 20))]
    if len(sys.argv) > 2:
        rows = [(sys.argv[2], sys.argv[3], int(sys.argv[4]))]
    print("| way | limit | peers | lowest mean over 10 s | highest | mean | least and most of one peer | CPU |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0
    for way, rate, count in rows:
        low, high, whole, least, most, seconds = run(binary, way, rate, count)
        worst = max(worst, abs(low - 1), abs(high - 1))
        print(
            f"| {way} | {rate} | {count} | {low:.2%} | {high:.2%} | {whole:.2%} | {least:.1%}, {most:.1%} | {seconds:.1f} s |",
            flush=True,
        )
    sys.exit(worst > 0.02)


main()
