//! `snapfreeze`: see the library of the same name.

fn main() -> std::process::ExitCode {
    snapfreeze::main()
}
