//! How many heaps the allocator of glibc keeps for our threads.
//!
//! ```text
//! heap::share();      // before the first thread
//! ```
//!
//! glibc gives threads heaps of their own, eight for each core, and what is freed stays in its heap. Here nearly
//! everything is allocated by one thread and freed by another, so with 200 peers a few MiB that are in use lie spread over
//! all heaps, and those grow with what was downloaded. Other allocators have one heap for all.

#![allow(unsafe_code)]

/// All threads allocate from a few heaps together.
pub(super) fn share() {
    /// Enough that a thread hardly ever waits for another one's call to end.
    #[cfg(target_env = "gnu")]
    const HEAPS: i32 = 4;
    // SAFETY: it sets a number in the allocator. No other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}
