"""A tracker for one race: `tracker.py IP PORT`. Tells everybody of everybody, by HTTP, in the compact form (BEP 23)."""
import socketserver
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SWARMS = {}


class Tracker(BaseHTTPRequestHandler):
    def do_GET(self):
        query = {}
        for pair in self.path.partition("?")[2].split("&"):
            key, _, value = pair.partition("=")
            query[key] = urllib.parse.unquote_to_bytes(value)
        if self.path == "/seeds":
            seeds = sum(left == b"0" for swarm in SWARMS.values() for left in swarm.values())
            return self.answer(b"%d" % seeds)
        swarm = SWARMS.setdefault(query.get("info_hash"), {})
        me = (self.client_address[0], int(query.get("port", b"0")))
        if query.get("event") == b"stopped":
            swarm.pop(me, None)
        else:
            swarm[me] = query.get("left")
        peers = b"".join(bytes(map(int, ip.split("."))) + port.to_bytes(2, "big") for ip, port in swarm if (ip, port) != me)
        self.answer(b"d8:intervali5e5:peers%d:%be" % (len(peers), peers))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):  # HTTPServer's own looks its name up, which takes long where there is no DNS
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Tracker).serve_forever()
