//! The binary: arguments in, exit status out. Everything else is the library's.

fn main() -> std::process::ExitCode {
    ropewalk::cli::main()
}
