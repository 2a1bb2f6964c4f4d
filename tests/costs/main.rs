//! What the filter does for one callback, counted and not timed: calls of the host, bytes that they copy,
//! allocations, and instructions. None may become more than `ceilings.json` allows for, and what has become less must be
//! written down there, so that it stays less.
//!
//! Counted is the filter's code alone, on the model host, in a worker that is warm: see the crate `costs`.
//! A host's own work is not in it, nor the memory of what it hands over, nor `src/envoy`, which only the module
//! has.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::restriction, missing_docs)]

mod callgrind;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use costs::{Kind, Scene};
use serde::Deserialize;

const CEILINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs/ceilings.json");

/// What may be used less, in per cent, before its ceiling must be lowered.
const UNUSED: u64 = 10;

/// How much more instructions may be counted than is written down, in per cent: the same source is
/// compiled a little differently when code beside it changes.
const COMPILED_DIFFERENTLY: u64 = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceilings {
    /// The compiler, and what it compiles for, to whose code the numbers of instructions and allocations
    /// belong.
    compiled_by: String,
    kinds: BTreeMap<String, Ceiling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    host_calls: BTreeMap<String, u64>,
    host_bytes: BTreeMap<String, u64>,
    allocations: u64,
    allocated_bytes: u64,
    instructions: u64,
}

impl Ceilings {
    fn read() -> Self {
        let text = std::fs::read_to_string(CEILINGS).unwrap();
        let ceilings: Self = serde_json::from_str(&text).unwrap();
        assert!(ceilings.kinds.keys().eq(sorted(Kind::ALL.map(Kind::name)).iter()), "{CEILINGS} has every kind");
        ceilings
    }

    /// What to say of a compiler that these are not the ceilings of.
    fn of_another_compiler(&self) -> Option<String> {
        let (compiler, known) = (callgrind::compiler(), &self.compiled_by);
        (compiler != *known).then(|| format!("this is {compiler}, the ceilings are those of {known}"))
    }

    fn of(&self, kind: Kind) -> &Ceiling {
        &self.kinds[kind.name()]
    }
}

/// What does not keep to its ceiling, to be told at once.
#[derive(Default)]
struct Findings(String);

impl Findings {
    /// `margin` is in per cent of the ceiling.
    fn compare(&mut self, kind: Kind, what: &str, counted: u64, ceiling: u64, margin: u64) {
        let advice = if counted * 100 > ceiling * (100 + margin) {
            "make it cheaper again or, where that is worth it, raise the ceiling"
        } else if counted * 100 < ceiling * (100 - UNUSED) {
            "cheaper than it was: lower the ceiling"
        } else {
            return;
        };
        writeln!(self.0, "{}: {what}: {counted}, ceiling {ceiling}: {advice}", kind.name()).unwrap();
    }

    /// The same by the names of the host's functions. A missing one is 0.
    fn compare_each(&mut self, kind: Kind, what: &str, counted: &Counts, ceilings: &BTreeMap<String, u64>) {
        let names: BTreeSet<&str> = counted.keys().copied().chain(ceilings.keys().map(String::as_str)).collect();
        for name in names {
            let (counted, ceiling) = (counted.get(name).copied(), ceilings.get(name).copied());
            self.compare(kind, &format!("{what} {name}"), counted.unwrap_or(0) as u64, ceiling.unwrap_or(0), 0);
        }
    }

    #[track_caller]
    fn end(self) {
        assert!(self.0.is_empty(), "see {CEILINGS}\n{}", self.0);
    }
}

type Counts = BTreeMap<&'static str, usize>;

#[test]
fn a_callback_calls_the_host_so_often_and_has_it_copy_so_much() {
    let (ceilings, mut findings) = (Ceilings::read(), Findings::default());
    let scene = Scene::new();
    for kind in Kind::ALL {
        scene.serve(kind);
        let (calls, bytes) = (scene.process.take_host_calls(), scene.process.take_host_bytes());
        println!("{}: calls {calls:?}, bytes {bytes:?}", kind.name());
        let ceiling = ceilings.of(kind);
        findings.compare_each(kind, "calls of", &calls, &ceiling.host_calls);
        findings.compare_each(kind, "bytes of", &bytes, &ceiling.host_bytes);
    }
    findings.end();
}

#[test]
fn a_callback_allocates_so_much() {
    thread_local! {
        static COUNTED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    let (ceilings, mut findings) = (Ceilings::read(), Findings::default());
    if let Some(compiler) = ceilings.of_another_compiler() {
        return skipped("ALLOCATIONS", &compiler); // they are the standard library's as well
    }
    let scene = Scene::new();
    for kind in Kind::ALL {
        COUNTED.set((0, 0));
        scene.serve_within(
            kind,
            |turn| {
                let counted = allocation_counter::measure(turn);
                let (count, bytes) = COUNTED.get();
                COUNTED.set((count + counted.count_total, bytes + counted.bytes_total));
            },
            |turn| allocation_counter::opt_out(turn),
        );
        let (count, bytes) = COUNTED.get();
        println!("{}: {count} allocations of {bytes} bytes", kind.name());
        assert!(count > 0 && bytes > count, "they are not counted at all");
        let ceiling = ceilings.of(kind);
        findings.compare(kind, "allocations", count, ceiling.allocations, 0);
        findings.compare(kind, "allocated bytes", bytes, ceiling.allocated_bytes, 0);
    }
    findings.end();
}

/// The instructions are native ones. AES and SHA-1 are compiled as they are for Wasm, in software, which
/// also makes the count the same on every processor.
#[test]
fn a_callback_takes_so_many_instructions() {
    let (ceilings, mut findings) = (Ceilings::read(), Findings::default());
    if let Some(compiler) = ceilings.of_another_compiler() {
        return skipped("INSTRUCTIONS", &compiler);
    }
    let Some(valgrind) = callgrind::valgrind() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "valgrind is missing in CI");
        return skipped("INSTRUCTIONS", "no valgrind: `make setup-valgrind` fetches it");
    };
    let program = callgrind::build();
    for kind in Kind::ALL {
        let profile = callgrind::profile(&valgrind, &program, kind.name());
        println!("{}: {profile}", kind.name());
        findings.compare(
            kind,
            "instructions",
            profile.instructions,
            ceilings.of(kind).instructions,
            COMPILED_DIFFERENTLY,
        );
    }
    findings.end();
}

/// Says so, and not only where the output of tests is shown.
fn skipped(what: &str, why: &str) {
    let line = "#".repeat(70);
    let text = format!("\n{line}\n# SKIPPED: {what} NOT COUNTED\n# {why}\n{line}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn sorted<const N: usize>(mut names: [&'static str; N]) -> [&'static str; N] {
    names.sort_unstable();
    names
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
