//! Identities that are more than a string.

use std::fmt;
use std::str::FromStr;

/// A run's id: a UUID, shown in lower-case hyphenated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

/// The text is not a hyphenated UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRunId;

impl fmt::Display for InvalidRunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalid RunId.")
    }
}

impl std::error::Error for InvalidRunId {}

impl RunId {
    /// A version-4 UUID made of random bits.
    pub const fn from_random(bits: u128) -> Self {
        let versioned = (bits & !(0xf << 76)) | (0x4 << 76);
        Self((versioned & !(0x3 << 62)) | (0x2 << 62))
    }

    /// The sixteen bytes used in keys, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From the sixteen bytes used in keys.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        let (a, c) = ((b >> 96) as u32, (b >> 80) as u16);
        let (d, e) = ((b >> 64) as u16, (b >> 48) as u16);
        write!(f, "{a:08x}-{c:04x}-{d:04x}-{e:04x}-{:012x}", b & 0xffff_ffff_ffff)
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;
    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        let bytes = text.as_bytes();
        let hyphens = [8, 13, 18, 23];
        if bytes.len() != 36 || hyphens.iter().any(|&at| bytes[at] != b'-') {
            return Err(InvalidRunId);
        }
        let digits = bytes.iter().enumerate().filter(|(at, _)| !hyphens.contains(at));
        let mut bits = 0u128;
        for (_, &byte) in digits {
            let digit = (byte as char).to_digit(16).ok_or(InvalidRunId)?;
            bits = (bits << 4) | u128::from(digit);
        }
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_is_a_version_four_uuid() {
        let id = RunId::from_random(u128::MAX / 3);
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(RunId::from_bytes(id.to_bytes()), id);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "x", "00000000-0000-0000-0000-00000000000g", "000000000000000000000000000000000000"] {
            assert_eq!(text.parse::<RunId>(), Err(InvalidRunId));
        }
    }
}
