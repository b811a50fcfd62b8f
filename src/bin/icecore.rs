//! The `icecore` command. All of it is in [`icecore::cli`].

fn main() -> std::process::ExitCode {
    icecore::cli::main()
}
