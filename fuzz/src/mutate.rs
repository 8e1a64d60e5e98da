//! Inputs out of inputs: bytes turned, inserted, taken away, moved, and words of the language put in.

use mainstay_base::Prng;

/// Numbers at which code turns.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX];
/// No input grows beyond this.
const LONGEST: usize = 1 << 16;

fn place(prng: &mut Prng, len: usize) -> usize {
    if len == 0 { 0 } else { prng.below(len as u64) as usize }
}

fn span(prng: &mut Prng, len: usize) -> std::ops::Range<usize> {
    let from = place(prng, len + 1);
    let most = (len - from).min(1 << prng.below(8));
    from..from + place(prng, most + 1)
}

/// A changed copy of one of the inputs; `words` may be put into it.
pub fn mutate(prng: &mut Prng, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = if pool.is_empty() { Vec::new() } else { pool[place(prng, pool.len())].clone() };
    for _ in 0..1 << prng.below(4) {
        once(prng, &mut input, pool, words);
    }
    input.truncate(LONGEST);
    input
}

fn once(prng: &mut Prng, input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
    let len = input.len();
    match prng.below(10) {
        0 if len > 0 => input[place(prng, len)] ^= 1 << prng.below(8),
        1 if len > 0 => input[place(prng, len)] = prng.below(256) as u8,
        2 => drop(input.drain(span(prng, len))),
        3 => {
            let copy = input[span(prng, len)].to_vec();
            let at = place(prng, len + 1);
            drop(input.splice(at..at, copy));
        }
        4 => {
            let at = place(prng, len + 1);
            let bytes: Vec<u8> = (0..1 + prng.below(8)).map(|_| prng.below(256) as u8).collect();
            drop(input.splice(at..at, bytes));
        }
        5 => {
            let edge = EDGES[place(prng, EDGES.len())].to_be_bytes();
            let edge = &edge[8 - (1 << prng.below(4))..];
            let at = place(prng, len + 1);
            let end = if prng.below(2) == 0 { at } else { (at + edge.len()).min(len) };
            drop(input.splice(at..end, edge.to_vec()));
        }
        6 if !pool.is_empty() => {
            let other = &pool[place(prng, pool.len())];
            let piece = other[span(prng, other.len())].to_vec();
            let at = span(prng, len);
            drop(input.splice(at, piece));
        }
        7..10 if !words.is_empty() => {
            let word = words[place(prng, words.len())].as_bytes().to_vec();
            let at = span(prng, len);
            let at = if prng.below(2) == 0 { at } else { at.start..at.start };
            drop(input.splice(at, word));
        }
        _ => input.push(prng.below(256) as u8),
    }
}

/// The input with parts left out, as long as it stays as `bad` as it was.
pub fn shrink(input: &[u8], mut bad: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut size = best.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < best.len() {
            let mut smaller = best.clone();
            smaller.drain(from..(from + size).min(best.len()));
            if bad(&smaller) {
                best = smaller;
            } else {
                from += size;
            }
        }
        if size == 1 {
            return best;
        }
        size = size.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_left() {
        let left = shrink(b"some words and an !x in them", |input| input.windows(2).any(|pair| pair == b"!x"));
        assert_eq!(left, b"!x");
    }

    #[test]
    fn every_change_can_be_made() {
        let mut prng = Prng::new(1);
        let mut pool = vec![Vec::new(), b"abc".to_vec()];
        for _ in 0..5000 {
            let input = mutate(&mut prng, &pool, &["word"]);
            assert!(input.len() <= LONGEST);
            if pool.len() < 50 {
                pool.push(input);
            }
        }
    }
}
