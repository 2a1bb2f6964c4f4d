//! Counts instructions with valgrind's callgrind, function by function.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::repository;

/// AES and SHA in software: the processor's own instructions are not what the module has.
const SOFTWARE: &str = r#"--cfg aes_backend="soft" --cfg sha1_backend="soft" --cfg sha2_backend="soft""#;

/// Functions that are named where something has changed.
const NAMED: usize = 15;

/// What was counted.
pub(crate) struct Profile {
    /// Instructions in the program itself: not in the C library, whose `memcpy` depends on the processor
    /// and whose `malloc` is not the module's. What these are called for is counted as allocations.
    pub(crate) instructions: u64,
    library: u64,
    /// Functions with their own instructions, the most first.
    functions: Vec<(String, u64)>,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} instructions, and {} in the C library", self.instructions, self.library)?;
        self.functions.iter().take(NAMED).try_for_each(|(name, count)| writeln!(f, "{count:9} {name}"))
    }
}

/// The compiler that cargo uses, and what it compiles for.
pub(crate) fn compiler() -> String {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("-vV").current_dir(repository()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says its host");
    format!("{}, {host}", text.lines().next().expect("rustc says its version"))
}

/// The one that the Makefile has installed, or that in PATH.
pub(crate) fn valgrind() -> Option<PathBuf> {
    let candidates = [repository().join("target/tools/bin/valgrind"), "valgrind".into()];
    candidates
        .into_iter()
        .find(|candidate| Command::new(candidate).arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// Compiles the program as the module is compiled, in a folder of its own: other flags compile everything
/// anew.
pub(crate) fn build() -> PathBuf {
    let folder = repository().join("target/costs");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--profile", "costs", "--package", "probe"])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(repository())
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", SOFTWARE)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("costs/probe")
}

/// What the program does between `filter` and `host`, for one callback of that kind.
pub(crate) fn profile(valgrind: &Path, program: &Path, kind: &str) -> Profile {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind.out");
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--collect-atstart=no", "--compress-strings=no", "--compress-pos=no"])
        .args(["--toggle-collect=probe::filter", "--toggle-collect=probe::host"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg(kind)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Profile::parse(&std::fs::read_to_string(&file).unwrap(), &program.display().to_string())
}

impl Profile {
    /// Reads callgrind's file without compressed names: lines of `ob=` and `fn=` say where the costs
    /// after them belong; the costs of a call stand in the line after `calls=`, and belong to what is called.
    fn parse(text: &str, program: &str) -> Self {
        let (mut object, mut function, mut is_call) = (String::new(), String::new(), false);
        let (mut instructions, mut library) = (0, 0);
        let mut functions: HashMap<String, u64> = HashMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("ob=") {
                name.clone_into(&mut object);
            } else if let Some(name) = line.strip_prefix("fn=") {
                name.clone_into(&mut function);
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) && !std::mem::take(&mut is_call) {
                let cost: u64 = line.split(' ').nth(1).expect("a position and a cost").parse().unwrap();
                if object == program {
                    instructions += cost;
                    *functions.entry(function.clone()).or_default() += cost;
                } else {
                    library += cost;
                }
            }
        }
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("the sum of all costs");
        assert_eq!(instructions + library, total.parse::<u64>().unwrap(), "every cost is one or the other's");
        assert!(instructions > library, "it is the filter that is counted");
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self { instructions, library, functions }
    }
}
