//! The program `wecom-callbacks`; the library of this package is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    wecom_callbacks::main()
}
