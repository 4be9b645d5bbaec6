"""The other side of the line, scripted: seeds and idle peers by the hundred in one process, and a long line.

Each runs in a process of its own (fork), so that what it costs is not counted as the program's."""
import collections
import itertools
import multiprocessing
import random
import select
import selectors
import socket
import struct
import time

PROTOCOL = b"\x13BitTorrent protocol"
FAST_AND_EXTENDED = b"\0\0\0\0\0\x10\0\x04"
BLOCK = 16384


def message(number, payload=b""):
    return struct.pack(">IB", 1 + len(payload), number) + payload


# `reqq` as most clients have it: so many requests are queued for us (BEP 10).
EXTENSION = message(20, b"\0d1:md6:ut_pexi1ee4:reqqi2000e1:v8:scriptede")
HAVE_NONE, HAVE_ALL, UNCHOKE = message(15), message(14), message(1)


class Line:
    """One connection of a scripted peer. As a seed it sends the same 16 KiB for each block, one in `late` of them after
    the one that was asked for behind it."""

    def __init__(self, sock, info_hash, number, block, late=0):
        self.sock, self.block, self.late, self.dice = sock, block, late, random.Random(number)
        self.unread, self.unsent, self.greeted = bytearray(), collections.deque(), False
        sock.setblocking(False)
        peer_id = b"-SC0000-%012d" % number
        hello = PROTOCOL + FAST_AND_EXTENDED + info_hash + peer_id + EXTENSION
        self.unsent.append(memoryview(hello + (HAVE_ALL + UNCHOKE if block else HAVE_NONE)))

    def read(self):
        """Takes what came; the number of requests in it, or None at the end of the line."""
        try:
            got = self.sock.recv(1 << 16)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        if not got:
            return None
        self.unread += got
        if not self.greeted:
            if len(self.unread) < 68:
                return 0
            del self.unread[:68]
            self.greeted = True
        at, answers = 0, []
        while len(self.unread) - at >= 4:
            length = int.from_bytes(self.unread[at:at + 4], "big")
            if len(self.unread) - at < 4 + length:
                break
            if length == 13 and self.unread[at + 4] == 6:
                wanted = int.from_bytes(self.unread[at + 13:at + 17], "big")
                head = struct.pack(">IB", 9 + wanted, 7) + self.unread[at + 5:at + 13]
                answers.append((memoryview(head), self.block[:wanted]))
            at += 4 + length
        del self.unread[:at]
        for one in range(1, len(answers) if self.late else 0):
            if not self.dice.randrange(self.late):
                answers[one - 1], answers[one] = answers[one], answers[one - 1]
        self.unsent.extend(itertools.chain(*answers))
        return len(answers)

    def write(self):
        """Sends what fits; False at the end of the line."""
        try:
            while self.unsent:
                sent = self.sock.sendmsg(list(itertools.islice(self.unsent, 256)))
                while self.unsent and sent >= len(self.unsent[0]):
                    sent -= len(self.unsent.popleft())
                if sent:
                    self.unsent[0] = self.unsent[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def serve(lines, listeners, make, first):
    """Goes round all lines for ever. `first` gets the time of the first request."""
    box = selectors.DefaultSelector()
    told = False

    def care(line):
        box.modify(line.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if line.unsent else 0), line)

    def add(line):
        line.write()
        box.register(line.sock, selectors.EVENT_READ, line)
        care(line)

    for line in lines:
        add(line)
    for listener in listeners:
        box.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, what in box.select():
            line = key.data
            if line is None:
                add(make(key.fileobj.accept()[0]))
                continue
            if what & selectors.EVENT_READ:
                requests = line.read()
                if requests and not told:
                    told = True
                    first.put(time.monotonic())
                if requests is None:
                    box.unregister(line.sock)
                    line.sock.close()
                    continue
            if line.unsent and not line.write():
                box.unregister(line.sock)
                line.sock.close()
                continue
            care(line)


class Peers:
    """Scripted peers: `count` seeds that listen, `late` with one block in so many, or with `call` as many idle peers that
    call (host, port)."""

    def __init__(self, count, info_hash, block=None, call=None, late=0):
        self.first = multiprocessing.Queue()
        self.addresses, listeners, callers = [], [], []
        for _ in range(0 if call else count):
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            listeners.append(listener)
            self.addresses.append("%s:%d" % listener.getsockname()[:2])
        block = memoryview(block) if block else None
        numbers = iter(range(1, 1 << 30))

        def run():
            for _ in range(count if call else 0):
                line = Line(socket.create_connection(call), info_hash, next(numbers), block)
                line.write()  # who calls and says nothing is soon sent away
                callers.append(line)
            serve(callers, listeners, lambda sock: Line(sock, info_hash, next(numbers), block, late), self.first)

        self.process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
        self.process.start()
        for listener in listeners:
            listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


class LongLine:
    """A relay: bytes to `address` and back arrive `delay` seconds later, at `rate` bytes a second each way."""

    def __init__(self, to, delay=0.05, rate=125_000_000):
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()[:2]
        self.process = multiprocessing.get_context("fork").Process(
            target=self.run, args=(listener, to, delay, rate), daemon=True)
        self.process.start()
        listener.close()

    @staticmethod
    def run(listener, to, delay, rate):
        while True:
            near = listener.accept()[0]
            carry(near, socket.create_connection(to), delay, rate)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


def carry(near, far, delay, rate):
    """Carries one connection until both ends have been closed."""
    for sock in (near, far):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # What a real line and its routers hold: bandwidth times delay, and 20 ms of queue.
    most = int(rate * (delay + 0.02))
    ways = [Way(near, far, delay, rate, most), Way(far, near, delay, rate, most)]
    while not all(way.ended for way in ways):
        now = time.monotonic()
        readers = [way.source for way in ways if way.may_read()]
        writers = [way.sink for way in ways if way.full and not way.ended]
        dues = [way.held[0][0] - now for way in ways if way.held and not way.full and not way.ended]
        select.select(readers, writers, [], max(min(dues, default=1), 0))
        now = time.monotonic()
        for way in ways:
            way.read(now)
            way.write(now)
    near.close()
    far.close()


class Way:
    """One direction of the long line."""

    def __init__(self, source, sink, delay, rate, most):
        self.source, self.sink, self.delay, self.rate, self.most = source, sink, delay, rate, most
        self.held, self.bytes, self.free_at = collections.deque(), 0, 0.0
        self.full = self.closing = self.ended = False

    def may_read(self):
        return not self.closing and self.bytes < self.most

    def read(self, now):
        while self.may_read():
            try:
                got = self.source.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                got = b""
            # The line is busy until the bytes before have gone out, but never in arrears from idling.
            self.free_at = max(self.free_at, now) + len(got) / self.rate
            self.held.append((self.free_at + self.delay, memoryview(got)))
            self.bytes += len(got)
            self.closing = not got

    def write(self, now):
        self.full = False
        while self.held and self.held[0][0] <= now and not self.ended:
            due, rest = self.held.popleft()
            try:
                if not rest:
                    self.ended = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return
                sent = self.sink.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.ended = self.closing = True
                return
            self.bytes -= sent
            if sent < len(rest):
                self.held.appendleft((due, rest[sent:]))
                self.full = True
                return
