//! The binary: arguments in, exit status out. Everything else is the library's.

// glibc keeps memory back for each thread that ever freed some, and in each of its heaps: 8 MiB with 200 peers
// (docs/measured/memory.md). The allocator of musl does not.
#[cfg(target_env = "gnu")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    ropewalk::cli::main()
}
