//! The hunt through one target: inputs made of inputs, those kept that are read in a new way, and the first that breaks a
//! promise cut down to what is needed for it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::dice::Dice;

use crate::mutation::mutate;
use crate::targets::{Reading, Target};

/// Inputs from which others are made; above it a new one takes the place of any.
const POOL: usize = 4_096;

/// Tries at making a failing input smaller.
const CUTS: usize = 20_000;

/// Which inputs are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) inputs: usize,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) inputs: usize,
    pub(crate) taken: usize,
    /// The most that was allocated at once, in bytes.
    pub(crate) most_bytes: u64,
    pub(crate) slowest: Duration,
    pub(crate) slowest_input: Vec<u8>,
    /// Inputs that were read in a way that none before was.
    pub(crate) new: Vec<Vec<u8>>,
    pub(crate) failure: Option<Failure>,
}

/// An input that breaks a promise.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) input: Vec<u8>,
    pub(crate) reason: String,
}

/// Plays the corpus, and then inputs made of it; `watch` sees each input before it is played.
pub(crate) fn hunt(target: &Target, corpus: &[Vec<u8>], plan: Plan, mut watch: impl FnMut(&[u8])) -> Tally {
    let (mut tally, mut kinds) = (Tally::default(), HashSet::new());
    // What is taken leads further than what is refused, so it is drawn from more often, however little there is.
    let mut pools = [corpus.to_vec(), Vec::new()];
    let mut dice = Dice::new(plan.seed ^ seed_of(target.name));
    while tally.inputs < plan.inputs {
        let from_corpus = tally.inputs < corpus.len();
        let input = match corpus.get(tally.inputs) {
            Some(input) => input.clone(),
            None => drawn(&mut dice, &pools, target.words),
        };
        watch(&input);
        let start = Instant::now();
        let played = play(target, &input);
        let took = start.elapsed();
        tally.inputs += 1;
        if took > tally.slowest {
            (tally.slowest, tally.slowest_input) = (took, input.clone());
        }
        let (reading, bytes) = match played {
            Ok(played) => played,
            Err(reason) => {
                tally.failure = Some(smallest(target, input, reason));
                return tally;
            }
        };
        tally.most_bytes = tally.most_bytes.max(bytes);
        tally.taken += usize::from(reading.taken);
        if from_corpus && reading.taken {
            pools[1].push(input.clone());
        }
        if kinds.insert((reading.taken, reading.kind)) && !from_corpus {
            let pool = &mut pools[usize::from(reading.taken)];
            if pool.len() < POOL {
                pool.push(input.clone());
            } else {
                let place = dice.below(POOL);
                pool[place].clone_from(&input);
            }
            tally.new.push(input);
        }
    }
    tally
}

/// Plays one input: how it was read and how much memory that took, or which promise it breaks.
pub(crate) fn play(target: &Target, input: &[u8]) -> Result<(Reading, u64), String> {
    let mut reading = None;
    let memory = allocation_counter::measure(|| {
        reading = Some(catch_unwind(AssertUnwindSafe(|| (target.play)(input))));
    });
    let bytes = memory.bytes_max;
    match reading {
        Some(Ok(Ok(reading))) => {
            let most = target.bytes + target.per_byte * input.len() as u64;
            match bytes <= most {
                true => Ok((reading, bytes)),
                false => Err(format!("memory is bounded: {bytes} bytes for an input of {}", input.len())),
            }
        }
        Some(Ok(Err(error))) => Err(format!("{error:#}")),
        Some(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("nothing panics: {}", text.unwrap_or_default()))
        }
        None => Err("nothing was played".to_owned()),
    }
}

fn drawn(dice: &mut Dice, pools: &[Vec<Vec<u8>>; 2], words: &[&str]) -> Vec<u8> {
    let [all, taken] = pools;
    let pool = if dice.below(3) == 0 || taken.is_empty() { all } else { taken };
    // The newest lead on; the oldest are good inputs that people wrote.
    let newest = pool.len().saturating_sub(64);
    let at = match dice.below(3) {
        0 => newest + dice.below(pool.len() - newest),
        _ => dice.below(pool.len()),
    };
    let (mut input, other) = (pool[at].clone(), dice.below(all.len()));
    mutate(dice, &mut input, &all[other], words);
    input
}

/// The same for each target on every machine, and another for each of them.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Cuts pieces out, halves first, as long as the same promise is broken.
fn smallest(target: &Target, mut input: Vec<u8>, mut reason: String) -> Failure {
    let promise = |reason: &str| reason.split(':').next().unwrap_or_default().to_owned();
    let broken = promise(&reason);
    let (mut size, mut cuts) = (input.len().div_ceil(2), 0);
    while size > 0 && cuts < CUTS {
        let (mut at, before) = (0, input.len());
        while at < input.len() && cuts < CUTS {
            cuts += 1;
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            match play(target, &shorter) {
                Err(other) if promise(&other) == broken => (input, reason) = (shorter, other),
                _ => at += size,
            }
        }
        if input.len() == before || size > input.len() {
            size /= 2;
        }
    }
    Failure { input, reason }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    const FRAIL: Target = Target {
        name: "frail",
        percent: 0,
        words: &["boom"],
        play: |input| {
            let text = String::from_utf8_lossy(input);
            ensure!(!text.contains("bo"), "no bo: {text}");
            assert!(!text.contains('!'), "a panic");
            drop(vec![0_u8; input.len() * 1_000]);
            Ok(Reading { taken: true, kind: 0 })
        },
        bytes: 1_000,
        per_byte: 1_000,
    };

    #[test]
    fn a_broken_promise_is_found_and_cut_down() {
        let plan = Plan { inputs: 100_000, seed: 7 };
        let tally = hunt(&FRAIL, &[b"a long beginning of something".to_vec()], plan, |_| ());
        let failure = tally.failure.expect("the word is in the dictionary");
        assert_eq!((failure.input.as_slice(), failure.reason.as_str()), (&b"bo"[..], "no bo: bo"));
        assert!(play(&FRAIL, b"x!").is_err_and(|reason| reason == "nothing panics: a panic"));
        let greedy = Target { per_byte: 1, bytes: 100, ..FRAIL };
        assert!(play(&greedy, b"abc").is_err_and(|reason| reason.starts_with("memory is bounded")));
    }
}
