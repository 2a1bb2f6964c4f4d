//! Writes the seeds of every target to a folder: `cargo run --example seeds -- FOLDER`.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "seeds".into()));
    for (target, _) in fuzz::TARGETS {
        fs::create_dir_all(folder.join(target))?;
        for (name, bytes) in fuzz::seeds::of(target) {
            fs::write(folder.join(target).join(name), bytes)?;
        }
    }
    Ok(())
}
