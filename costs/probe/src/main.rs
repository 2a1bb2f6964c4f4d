//! Serves one callback of a kind, for valgrind to count its instructions: `probe bind`.
//!
//! tests/costs has only those counted that run in [`filter`] and not in [`host`].

use std::hint::black_box;

use costs::{Kind, Scene};

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        eprintln!("probe: names one of {:?}", Kind::ALL.map(Kind::name));
        std::process::exit(2);
    };
    Scene::new().serve_within(kind, filter, host);
}

/// Around the filter's code. A call and a return, and no jump, is what valgrind sees.
#[inline(never)]
fn filter(turn: &mut dyn FnMut()) {
    turn();
    black_box(());
}

/// Around the model's, where the filter calls it.
#[inline(never)]
fn host(turn: &mut dyn FnMut()) {
    turn();
    black_box(0_u8);
}
