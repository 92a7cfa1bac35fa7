//! The program of `azure::azdisk`: run by the agent on a host, never by people.

use azure::azdisk::{Args, run};
use clap::Parser;
use common::helper::Lines;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("Internal: {e}");
            return ExitCode::from(protocol::code::exit::OTHER);
        }
    };
    ExitCode::from(runtime.block_on(run(args, &mut Lines::of_stdin())))
}
