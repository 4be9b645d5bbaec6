//! Checks data on disk against a torrent.
