//! How much memory the allocator of glibc keeps for our threads.
//!
//! ```text
//! heap::economise();      // before the first thread
//! ```
//!
//! glibc gives threads heaps of their own, eight for each core, and what is freed stays in its heap. Here nearly
//! everything is allocated by one thread and freed by another, so with 200 peers a few MiB that are in use lie spread over
//! all heaps, and those grow with what was downloaded. Other allocators have one heap for all.
//!
//! What is large has pages of its own, which go back to the system when it is freed; but once such a piece was
//! freed, glibc takes the next ones of its size from a heap, and keeps them.

#![allow(unsafe_code)]

/// All threads allocate from a few heaps together, and what is large never from a heap.
pub(super) fn economise() {
    /// Enough that a thread hardly ever waits for another one's call to end.
    #[cfg(target_env = "gnu")]
    const HEAPS: i32 = 4;
    /// In bytes: where glibc begins. Named, it stays there.
    #[cfg(target_env = "gnu")]
    const LARGE: i32 = 128 * 1024;
    // SAFETY: these set numbers in the allocator. No other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
