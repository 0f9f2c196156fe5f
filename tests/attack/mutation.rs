//! From one input to the next: the changes that break parsers, drawn by a seed.
//!
//! It knows bytes, brackets, numbers, trees of JSON and the words of a target, and no other grammar: what it makes is nearly
//! right, right in a way that nobody thought of, or far too deep. Every result is bounded.

use harness::dice::Dice;
use serde_json::Value;

use crate::targets::BETWEEN;

/// An input is at most this long, but for the few that are made long on purpose.
const USUAL: usize = 2 << 10;

/// The longest of all; the largest body that the API reads is far above it, and costs the same work a byte.
const MOST: usize = 64 << 10;

/// Numbers at the edges of what types hold.
const NUMBERS: [&str; 16] = [
    "0",
    "-0",
    "-1",
    "1e400",
    "1E-400",
    "0.1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775809",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "00",
];

/// Bytes and pieces with a meaning of their own in what is parsed here.
const PIECES: [&[u8]; 30] = [
    b"\0",
    b"\x01",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\x7f",
    b"\x80",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    "\u{2028}".as_bytes(),
    "\u{1f980}".as_bytes(),
    b"\\u0000",
    b"\\ud800",
    b"\\ud83e\\udd80",
    b"\\\"",
    b"\\\\",
    b"\"",
    b"'",
    b",",
    b":",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"~",
    b"%00",
    b"%zz",
    b"/",
];

/// What nests.
const PAIRS: [(&[u8], &[u8]); 5] =
    [(b"[", b"]"), (b"{\"a\":", b"}"), (b"(", b")"), (b"{", b"}"), (b"\"", b"\"")];

/// Changes `input` a few times; `other` is another input of the corpus, `words` are the target's own.
pub(crate) fn mutate(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let most = if dice.below(1_000) == 0 { MOST } else { USUAL.max(input.len()) };
    if dice.below(2) == 0 && tree(dice, input, words) && dice.below(4) > 0 {
        input.truncate(most);
        return;
    }
    for _ in 0..1 + dice.below(4) {
        change(dice, input, other, words, most);
        input.truncate(most);
    }
}

fn change(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8], words: &[&str], most: usize) {
    let (start, end) = range(dice, input.len());
    match dice.below(14) {
        0 => drop(input.drain(start..end)),
        1 => {
            let piece = input[start..end].to_vec();
            let at = dice.below(input.len() + 1);
            splice(input, at, at, &piece);
        }
        2 => {
            // The same again and again: depth, length and number at once.
            let times = 1 << dice.below(if most == MOST { 14 } else { 8 });
            let piece = &input[start..end.min(start + 16)];
            let piece = piece.repeat(times.min(most / piece.len().max(1)));
            splice(input, start, start, &piece);
        }
        3 => {
            let (open, close) = PAIRS[dice.below(PAIRS.len())];
            let times = 1 << dice.below(if most == MOST { 13 } else { 7 });
            splice(input, end, end, &close.repeat(times));
            splice(input, start, start, &open.repeat(times));
        }
        4 => {
            let (from, to) = range(dice, other.len());
            splice(input, start, end, &other[from..to]);
        }
        5 if start < input.len() => input[start] ^= 1 << dice.below(8),
        6 if start < input.len() => input[start] = u8::try_from(dice.below(256)).unwrap_or_default(),
        7 => number(dice, input, start),
        8 => splice(input, start, start, dice.pick(&PIECES)),
        9 | 10 => splice(input, start, start, word(dice, words)),
        11 => {
            let word = word(dice, words);
            string(dice, input, start, word);
        }
        12 => input[start..end].rotate_left((end - start) / 2),
        _ => splice(input, start, end, word(dice, words)),
    }
}

/// Changes JSON to other JSON, in one of the parts that are an array or an object; false where none is.
fn tree(dice: &mut Dice, input: &mut Vec<u8>, words: &[&str]) -> bool {
    let (mut found, mut start) = (Vec::new(), 0);
    while start < input.len() {
        let rest = &input[start..];
        let size = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN).unwrap_or(rest.len());
        if rest[..size].trim_ascii_start().starts_with(b"{") || rest[..size].starts_with(b"[") {
            found.push((start, start + size));
        }
        start += size + BETWEEN.len();
    }
    if found.is_empty() {
        return false;
    }
    let (start, end) = found[dice.below(found.len())];
    let Ok(mut value) = serde_json::from_slice::<Value>(&input[start..end]) else { return false };
    for _ in 0..1 + dice.below(3) {
        branch(dice, &mut value, words);
    }
    splice(input, start, end, value.to_string().as_bytes());
    true
}

/// Changes a value somewhere below.
fn branch(dice: &mut Dice, value: &mut Value, words: &[&str]) {
    let deeper = dice.below(3) > 0;
    match value {
        Value::Array(all) if deeper && !all.is_empty() => {
            let at = dice.below(all.len());
            branch(dice, &mut all[at], words);
        }
        Value::Object(all) if deeper && !all.is_empty() => {
            let at = dice.below(all.len());
            if let Some(below) = all.values_mut().nth(at) {
                branch(dice, below, words);
            }
        }
        Value::Array(all) => {
            let at = dice.below(all.len() + 1);
            match dice.below(3) {
                0 if at < all.len() => drop(all.remove(at)),
                1 if at < all.len() => all.insert(at, all[at].clone()),
                _ => all.insert(at, leaf(dice, words)),
            }
        }
        Value::Object(all) => {
            let at = dice.below(all.len() + 1);
            let key = all.keys().nth(at).cloned().filter(|_| dice.below(2) == 0);
            let old = key.and_then(|key| all.remove(&key));
            if old.is_none() || dice.below(2) == 0 {
                all.insert(name(dice, words), old.unwrap_or_else(|| leaf(dice, words)));
            }
        }
        _ => *value = leaf(dice, words),
    }
}

/// A value that somebody may not have thought of, or one of the target's own words.
fn leaf(dice: &mut Dice, words: &[&str]) -> Value {
    match dice.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => serde_json::from_str(dice.pick(&NUMBERS)).unwrap_or_default(),
        3 => String::from_utf8_lossy(dice.pick(&PIECES)).into(),
        4 => Value::Array(vec![leaf(dice, words)]),
        5 => Value::Object([(name(dice, words), leaf(dice, words))].into_iter().collect()),
        _ => {
            let word = word(dice, words);
            serde_json::from_slice(word).unwrap_or_else(|_| String::from_utf8_lossy(word).into())
        }
    }
}

fn name(dice: &mut Dice, words: &[&str]) -> String {
    String::from_utf8_lossy(word(dice, words)).trim_matches('"').to_owned()
}

fn word<'a>(dice: &mut Dice, words: &[&'a str]) -> &'a [u8] {
    if words.is_empty() { b"" } else { dice.pick(words).as_bytes() }
}

/// Mostly a short one.
fn range(dice: &mut Dice, length: usize) -> (usize, usize) {
    let start = dice.below(length + 1);
    let longest = 1 << dice.below(10);
    (start, (start + dice.below(longest)).min(length))
}

fn splice(input: &mut Vec<u8>, start: usize, end: usize, piece: &[u8]) {
    input.splice(start..end, piece.iter().copied());
}

/// Puts another number in the place of the next one.
fn number(dice: &mut Dice, input: &mut Vec<u8>, from: usize) {
    let digits = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = input[from..].iter().position(digits).map(|at| from + at) else { return };
    let end = input[start..].iter().position(|byte| !digits(byte)).map_or(input.len(), |at| start + at);
    splice(input, start, end, dice.pick(&NUMBERS).as_bytes());
}

/// Puts a word in the place of what the next quotes hold, which keeps JSON whole.
fn string(dice: &mut Dice, input: &mut Vec<u8>, from: usize, word: &[u8]) {
    let quote = |at: usize, input: &[u8]| Some(at + input.get(at..)?.iter().position(|byte| *byte == b'"')?);
    let Some(start) = quote(from, input).map(|at| at + 1) else { return };
    let Some(end) = quote(start, input) else { return };
    let word = if dice.below(4) == 0 { dice.pick(&PIECES) } else { word };
    splice(input, start, end, word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_none_too_long() {
        let made = |seed: u64| {
            let (mut dice, mut input) = (Dice::new(seed), b"{\"a\": [1, \"b\"]}".to_vec());
            let mut all = Vec::new();
            for _ in 0..2_000 {
                mutate(&mut dice, &mut input, b"[other]", &["word"]);
                assert!(input.len() <= MOST);
                all.push(input.clone());
                if input.len() > USUAL {
                    input = b"[7]".to_vec();
                }
            }
            all
        };
        assert_eq!(made(3), made(3));
        assert_ne!(made(3), made(4));
    }
}
