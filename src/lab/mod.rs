//! A whole swarm on loopback in one process.
