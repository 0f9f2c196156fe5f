//! `cargo attack`: hostile inputs for everything that reads bytes of someone else's, millions of them, by a seed.
//!
//! They are made of a corpus that is kept in the repository and replayed by `cargo test`. What breaks a promise is cut down
//! and added to the corpus, and the command fails. The input at work is always in `target/attack/`, should it take the
//! process with it or never end.

mod corpus;
mod hunt;
mod mutation;
mod targets;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use harness::workspace;

use hunt::{Plan, Tally, hunt};
use targets::{TARGETS, Target};

/// What a thread of the companion's runtime has.
const STACK: usize = 2 << 20;

/// An input that takes longer never ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Inputs kept of one run: the smallest that were read in a new way.
const KEPT: usize = 40;

/// Feeds hostile inputs to everything that parses
#[derive(Parser)]
struct Options {
    /// How many inputs, over all targets
    #[arg(long, default_value_t = 1_000_000)]
    inputs: usize,
    /// The same seed makes the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only targets whose name has this in it; each gets its share as if all were played
    #[arg(long, default_value = "")]
    target: String,
    /// Add the smallest inputs that were read in a new way to the corpus
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    // A panic is told with the input that made it.
    std::panic::set_hook(Box::new(|_| ()));
    println!(
        "{:24} {:>9} {:>9} {:>6} {:>12} {:>12}",
        "target", "inputs", "taken", "kinds", "most memory", "slowest"
    );
    let (mut failed, mut inputs) = (0, 0);
    for target in TARGETS.iter().filter(|target| target.name.contains(&options.target)) {
        let tally = attack(target, &options)?;
        inputs += tally.inputs;
        failed += usize::from(tally.failure.is_some());
        show(target, &tally);
        if let Some(failure) = &tally.failure {
            let path = corpus::keep(target.name, &failure.input)?;
            println!("    {}\n    {}", failure.reason, path.display());
        } else if options.keep {
            let mut new = tally.new;
            new.sort_by_key(Vec::len);
            for input in new.iter().take(KEPT) {
                corpus::keep(target.name, input)?;
            }
        }
    }
    println!("{inputs} inputs, {failed} targets failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One target's share, on a thread with the stack that it has in service.
fn attack(target: &'static Target, options: &Options) -> Result<Tally> {
    let corpus: Vec<_> = corpus::read(target.name)?.into_iter().map(|(_, input)| input).collect();
    let plan = Plan { inputs: options.inputs * target.percent / 100, seed: options.seed };
    let folder = workspace::target()?.join("attack");
    fs::create_dir_all(&folder)?;
    let path = folder.join(target.name);
    let at_work = File::create(&path)?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let watch = move |input: &[u8]| {
        counted.fetch_add(1, Ordering::Relaxed);
        // A full disk only takes the means to look closer.
        let _ = at_work.set_len(input.len() as u64).and_then(|()| at_work.write_all_at(input, 0));
    };
    let (tell, told) = mpsc::channel();
    thread::Builder::new().stack_size(STACK).spawn(move || {
        // Whoever waits for it is there as long as it plays.
        let _ = tell.send(hunt(target, &corpus, plan, watch));
    })?;
    let mut seen = usize::MAX;
    let tally = loop {
        match told.recv_timeout(PATIENCE) {
            Ok(tally) => break tally,
            Err(RecvTimeoutError::Disconnected) => bail!("{} broke off at {}", target.name, path.display()),
            Err(RecvTimeoutError::Timeout) => {
                let now = count.load(Ordering::Relaxed);
                ensure!(now != seen, "{} never ends at {}", target.name, path.display());
                seen = now;
            }
        }
    };
    fs::write(path, &tally.slowest_input)?;
    Ok(tally)
}

fn show(target: &Target, tally: &Tally) {
    println!(
        "{:24} {:>9} {:>9} {:>6} {:>8} KiB {:>9.1} ms{}",
        target.name,
        tally.inputs,
        tally.taken,
        tally.new.len(),
        tally.most_bytes >> 10,
        tally.slowest.as_secs_f64() * 1e3,
        if tally.failure.is_some() { "  FAILED" } else { "" },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn beside the corpus: enough to see that a target works, and some that nobody has seen.
    const DRAWN: usize = 300;

    #[test]
    fn every_input_of_the_corpora_is_read_as_promised() {
        for target in TARGETS {
            let inputs = corpus::read(target.name).expect("a corpus");
            assert!(inputs.len() >= 5, "{}: a corpus of {}", target.name, inputs.len());
            for (name, input) in &inputs {
                if let Err(reason) = hunt::play(target, input) {
                    panic!("{}/{name}: {reason}", target.name);
                }
            }
            let some =
                inputs.iter().any(|(_, input)| hunt::play(target, input).is_ok_and(|(read, _)| read.taken));
            assert!(some, "{}: nothing of the corpus is taken", target.name);
            let corpus: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
            let plan = Plan { inputs: corpus.len() + DRAWN, seed: 1 };
            if let Some(failure) = hunt(target, &corpus, plan, |_| ()).failure {
                panic!(
                    "{}: {} for {:?}",
                    target.name,
                    failure.reason,
                    String::from_utf8_lossy(&failure.input)
                );
            }
        }
    }

    #[test]
    fn the_shares_make_a_whole() {
        assert_eq!(TARGETS.iter().map(|target| target.percent).sum::<usize>(), 100);
    }
}
