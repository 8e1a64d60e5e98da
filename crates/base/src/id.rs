//! Identities that are more than a string.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::Timestamp;

/// A run's id: a UUID, shown in lower-case hyphenated form. Other identities that the server makes have the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

const TEXT_LENGTH: usize = 36;
/// Where the digits are in the text, and what is between them.
const GROUPS: [Range<usize>; 5] = [0..8, 9..13, 14..18, 19..23, 24..36];
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HEX: &[u8; 16] = b"0123456789abcdef";
const NANOS_PER_MILLI: i64 = 1_000_000;
/// The lowest bit of the time in a version-7 UUID.
const MILLIS_AT: u32 = 80;
const NO_DIGIT: u8 = 0xff;
/// What each byte is worth as a digit, of either case.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[HEX[digit] as usize] = digit as u8;
        values[HEX[digit].to_ascii_uppercase() as usize] = digit as u8;
        digit += 1;
    }
    values
};

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
        Self::of_version(4, bits)
    }

    /// A version-7 UUID: the time in milliseconds, 0 if it is before 1970, then random bits. Later ids are greater.
    pub const fn from_time(time: Timestamp, bits: u128) -> Self {
        let nanos = time.as_nanos();
        let millis = if nanos < 0 { 0 } else { (nanos / NANOS_PER_MILLI) as u128 };
        Self::of_version(7, (millis << MILLIS_AT) | (bits & ((1 << MILLIS_AT) - 1)))
    }

    const fn of_version(version: u128, bits: u128) -> Self {
        let versioned = (bits & !(0xf << 76)) | (version << 76);
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
        let mut text = [b'-'; TEXT_LENGTH];
        let mut digits = GROUPS.into_iter().flatten();
        for byte in self.to_bytes() {
            for digit in [byte >> 4, byte & 0xf] {
                let at = digits.next().unwrap_or_default();
                text[at] = HEX[usize::from(digit)];
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;
    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        let bytes: &[u8; TEXT_LENGTH] = text.as_bytes().try_into().map_err(|_| InvalidRunId)?;
        if HYPHENS.iter().any(|&at| bytes[at] != b'-') {
            return Err(InvalidRunId);
        }
        let mut bits = 0u128;
        for group in GROUPS {
            let mut part = 0u64;
            let length = group.len();
            for at in group {
                let digit = VALUES[usize::from(bytes[at])];
                if digit == NO_DIGIT {
                    return Err(InvalidRunId);
                }
                part = (part << 4) | u64::from(digit);
            }
            bits = (bits << (4 * length)) | u128::from(part);
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
        assert_eq!(text, "55555555-5555-4555-9555-555555555555");
        assert_eq!(text.parse(), Ok(id));
        let mixed = RunId::from_bytes([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x4d, 0xef, 0x80, 1, 2, 3, 4, 5, 6, 0xff]);
        assert_eq!(mixed.to_string(), "01234567-89ab-4def-8001-0203040506ff");
        assert_eq!("01234567-89AB-4DEF-8001-0203040506FF".parse(), Ok(mixed));
        assert_eq!(RunId::from_bytes(id.to_bytes()), id);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]));
    }

    #[test]
    fn ids_of_a_time_are_version_seven_uuids_in_its_order() {
        let at = |millis: i64| RunId::from_time(Timestamp::from_nanos(millis * 1_000_000 + 999_999), u128::MAX / 3);
        assert_eq!(at(0x0123_4567_89ab).to_string(), "01234567-89ab-7555-9555-555555555555");
        let earlier = RunId::from_time(Timestamp::from_nanos(41_000_000), u128::MAX);
        assert!(earlier < RunId::from_time(Timestamp::from_nanos(42_000_000), 0));
        assert_eq!(at(-7).to_string(), "00000000-0000-7555-9555-555555555555");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "x", "00000000-0000-0000-0000-00000000000g", "000000000000000000000000000000000000"] {
            assert_eq!(text.parse::<RunId>(), Err(InvalidRunId));
        }
    }
}
