"""Where programs race: test hosts (network namespaces) without a way out, payloads, processes that are measured and ended."""
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def call(*words, **more):
    return subprocess.run(words, check=True, stdout=subprocess.DEVNULL, **more)


class Yard:
    """A folder, some hosts on one bridge, and every process begun there; all of it is gone at the end."""

    def __init__(self, disk, hosts=0):
        self.folder = tempfile.mkdtemp(prefix="ropewalk-bench-", dir=disk)
        self.name, self.processes, self.namespaces = f"bench{os.getpid()}", [], []
        if hosts:
            bridge = self.namespace(0)
            call("ip", "-n", bridge, "link", "add", "lane", "type", "bridge")
            call("ip", "-n", bridge, "link", "set", "lane", "up")
        for host in range(1, hosts + 1):
            name = self.namespace(host)
            call("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{host}", "netns", bridge)
            call("ip", "-n", bridge, "link", "set", f"port{host}", "master", "lane", "up")
            call("ip", "-n", name, "addr", "add", f"10.98.0.{host}/24", "dev", "eth0")
            call("ip", "-n", name, "link", "set", "eth0", "up")

    def namespace(self, number):
        name = f"{self.name}-{number}"
        call("ip", "netns", "add", name)
        self.namespaces.append(name)
        call("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def on(self, host, words):
        return ["ip", "netns", "exec", f"{self.name}-{host}", *words] if host else list(words)

    def shape(self, host, mbit):
        """What the host sends leaves in packets of 1,500 bytes at so many Mbit/s, as from a network card."""
        name = f"{self.name}-{host}"
        call("ip", "-n", name, "link", "set", "eth0", "gso_max_segs", "1")
        rate = f"tbf rate {mbit}mbit burst 32k latency 50ms"
        call(*self.on(host, ["tc", "qdisc", "add", "dev", "eth0", "root", *rate.split()]))

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self, words, host=0, log=None):
        output = open(self.path(log), "w") if log else subprocess.DEVNULL
        process = subprocess.Popen(self.on(host, words), stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        self.processes.append(process)
        return process

    def end(self, process):
        """Asks it to leave, and makes it after five seconds."""
        for sign, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if process.poll() is None:
                os.killpg(process.pid, sign)
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        self.processes.remove(process)

    def timed(self, words, host=0, patience=170, log="log", sync=None):
        """Runs to the end. Begun by time(1): a child of this process would inherit its peak of memory."""
        figures = self.path("time")
        began = time.monotonic()
        process = self.start(["/usr/bin/time", "-q", "-o", figures, "-f", "%U %S %M", *words], host, log)
        # Not wait(patience): that looks again every 50 ms only, a quarter of what some of these runs take.
        alarm = threading.Timer(patience, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        code = process.wait()
        alarm.cancel()
        if sync and os.path.exists(sync):  # what is not on disk is not done: counted for everybody
            call("sync", sync)
        wall = time.monotonic() - began
        self.end(process)
        if code != 0:
            with open(self.path(log)) as text:
                sys.exit(f"{' '.join(words)}: status {code}\n{text.read()[-2000:]}")
        user, system, peak = map(float, open(figures).read().split()[-3:])
        return {"wall": wall, "user": user, "sys": system, "cpu": user + system, "rss": peak / 1024}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in list(self.processes):
            self.end(process)
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def payload(path, mib):
    with open(path, "wb") as out:
        for _ in range(mib):
            out.write(os.urandom(1 << 20))
    return path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bencode(item):
    if isinstance(item, int):
        return b"i%de" % item
    if isinstance(item, (bytes, str)):
        item = item.encode() if isinstance(item, str) else item
        return b"%d:%b" % (len(item), item)
    return b"d" + b"".join(bencode(key) + bencode(value) for key, value in sorted(item.items())) + b"e"


def same_blocks(path, mib, block, piece_length=1 << 20, announce="http://127.0.0.1:9/announce"):
    """A torrent whose every block has the bytes of `block`, so that scripted seeds need no file; its info-hash."""
    digest = hashlib.sha1(block * (piece_length // len(block))).digest()
    pieces = mib * (1 << 20) // piece_length
    info = {"name": "same.bin", "piece length": piece_length, "length": mib << 20, "pieces": digest * pieces}
    with open(path, "wb") as out:
        out.write(bencode({"announce": announce, "info": info}))
    return hashlib.sha1(bencode(info)).digest()


def spent(pid):
    """Processor seconds of a running process so far, all its threads together."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(pid, field):
    """A figure of /proc/PID/status, added up over its threads where it is one of theirs."""
    folders = [f"/proc/{pid}"]
    if field.endswith("switches"):
        folders = [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
    total = 0
    for folder in folders:
        with open(f"{folder}/status") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(field + ":"))
    return total


def until(event, patience, what):
    """Waits until `event()` is true; leaves with `what` where it never is."""
    end = time.monotonic() + patience
    while not event():
        if time.monotonic() > end:
            sys.exit(f"waited {patience} s: {what}")
        time.sleep(0.05)
