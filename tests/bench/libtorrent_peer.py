"""libtorrent as a program: `libtorrent_peer.py seed|get TORRENT DIR PORT [SETTING=NUMBER...]`. `get` ends when it has
everything."""
import sys
import time

import libtorrent

role, torrent, folder, port, *settings = sys.argv[1:]
session = libtorrent.session({
    "listen_interfaces": f"0.0.0.0:{port}", "alert_mask": 0, "unchoke_slots_limit": -1,
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "allow_multiple_connections_per_ip": True,
    **{name: int(number) for name, number in (setting.split("=") for setting in settings)},
})
params = libtorrent.add_torrent_params()
params.ti = libtorrent.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
if role == "seed":
    params.flags |= libtorrent.torrent_flags.seed_mode
handle = session.add_torrent(params)
while role == "seed" or not handle.status().is_seeding:
    time.sleep(0.01 if role == "get" else 1)
