//! Writes the seeds of every target to a folder, one folder each, and the targets' names to the
//! standard output: `cargo run --example seeds -- FOLDER`.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "seeds".into()));
    for target in fuzz::TARGETS {
        fs::create_dir_all(folder.join(target.name()))?;
        for (name, bytes) in target.seeds() {
            fs::write(folder.join(target.name()).join(name), bytes)?;
        }
        println!("{}", target.name());
    }
    Ok(())
}
