//! Runs one of the shared targets under libFuzzer: the one that `SCORELINE_FUZZ_TARGET` names. Its seeds are written to
//! the folder `SCORELINE_FUZZ_SEEDS` before the corpus is read.
//!
//! One binary for all of them: linking the server once for each would cost more than it finds.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use all of it")]
mod support;
#[path = "../../tests/it/fuzz/targets/mod.rs"]
#[expect(dead_code, reason = "forms and names are for the mutations of the tests")]
mod targets;

use targets::{Feed, TARGETS, Target};

thread_local! {
    static FEED: RefCell<Option<Feed>> = const { RefCell::new(None) };
}

libfuzzer_sys::fuzz_target!(
    init: {
        let seeds = std::env::var("SCORELINE_FUZZ_SEEDS").unwrap_or_default();
        if !seeds.is_empty() {
            for (number, seed) in chosen().corpus().iter().enumerate() {
                let path = Path::new(&seeds).join(format!("seed-{number:03}"));
                std::fs::write(&path, seed).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            }
        }
    },
    |input: &[u8]| {
        FEED.with_borrow_mut(|feed| {
            let target = chosen();
            target.check(feed.get_or_insert_with(target.open), input);
        });
    }
);

fn chosen() -> &'static Target {
    static CHOSEN: std::sync::OnceLock<&Target> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("SCORELINE_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            panic!("`SCORELINE_FUZZ_TARGET` must name a target: {}", names.join(", "))
        })
    })
}
