"""libtorrent as one more program of the table: makes torrents, names them, seeds, leeches."""
import json
import os
import signal
import sys
import time

import libtorrent as lt


def torrent_info(path):
    return lt.torrent_info(path)


def make(kind, piece_length, tracker, source, out):
    """Writes a .torrent of `source`. Kinds: v1, padded (v1 with padding files), hybrid."""
    files = lt.file_storage()
    lt.add_files(files, source)
    flags = {
        "v1": lt.create_torrent.v1_only,
        "padded": lt.create_torrent.v1_only | lt.create_torrent.canonical_files,
        "hybrid": lt.create_torrent.canonical_files,
    }[kind]
    torrent = lt.create_torrent(files, int(piece_length), flags)
    torrent.add_tracker(tracker, 0)
    torrent.set_creator("the interop tests")
    lt.set_piece_hashes(torrent, os.path.dirname(source))
    with open(out, "wb") as sink:
        sink.write(lt.bencode(torrent.generate()))


def tell(path):
    """Prints the v1 info-hash, then each padding file's length and path."""
    info = torrent_info(path)
    print(info.info_hashes().v1)
    files = info.files()
    for index in range(files.num_files()):
        if files.file_flags(index) & lt.file_flags_t.flag_pad_file:
            print(files.file_size(index), files.file_path(index))


def session(address, port):
    return lt.session(
        {
            "listen_interfaces": f"{address}:{port}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            # A newcomer is served within a second, not at the next round of fifteen.
            "unchoke_interval": 1,
            "optimistic_unchoke_interval": 1,
            "unchoke_slots_limit": 100,
            "allow_multiple_connections_per_ip": True,
            "in_enc_policy": int(lt.enc_policy.enabled),
            "out_enc_policy": int(lt.enc_policy.disabled),
            "allowed_enc_level": int(lt.enc_level.both),
            "alert_mask": int(lt.alert.category_t.error_notification | lt.alert.category_t.storage_notification),
        }
    )


def start(address, port, torrent, folder, seed_mode):
    ses = session(address, port)
    params = lt.add_torrent_params()
    params.ti = torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~lt.torrent_flags.auto_managed
    params.flags &= ~lt.torrent_flags.paused
    if seed_mode:
        params.flags |= lt.torrent_flags.seed_mode
    return ses, ses.add_torrent(params)


def seed(address, port, torrent, folder, figures, seed_mode=""):
    """Serves until SIGTERM. Writes the payload bytes served so far to `figures` as they change."""
    leave = []
    signal.signal(signal.SIGTERM, lambda *_: leave.append(True))
    ses, handle = start(address, port, torrent, folder, seed_mode == "unchecked")
    told = None
    while not leave:
        status = handle.status()
        now = {"seeding": status.is_seeding, "uploaded": status.total_payload_upload}
        if now != told:
            with open(figures + ".new", "w") as sink:
                json.dump(now, sink)
            os.rename(figures + ".new", figures)
            told = now
        time.sleep(0.05)


def leech(address, port, torrent, folder):
    """Downloads, flushes to the files, and ends."""
    ses, handle = start(address, port, torrent, folder, False)
    while not handle.status().is_seeding:
        time.sleep(0.05)
    handle.pause()
    handle.flush_cache()
    while True:
        ses.wait_for_alert(1000)
        if any(isinstance(alert, lt.cache_flushed_alert) for alert in ses.pop_alerts()):
            return


if __name__ == "__main__":
    {"make": make, "tell": tell, "seed": seed, "leech": leech}[sys.argv[1]](*sys.argv[2:])
