//! Log-linear histogram: bucket number of a value and bounds of a bucket.
//!
//! Values below 8 have a bucket each; above, every power of two is split into 8 equal buckets, so a
//! bucket is at most 12.5 % of its value wide. Values from 2^40 (18 minutes in ns) on share the last.

/// log2 of the number of buckets a power of two is split into.
const SUB_BITS: u32 = 3;
/// Values at or above 2^`MAX_BITS` share the last bucket.
const MAX_BITS: u32 = 40;
/// Number of buckets of one histogram.
pub const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// Position of the highest set bit of each byte.
static LOG2: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 2;
    while byte < 256 {
        table[byte] = table[byte / 2] + 1;
        byte += 1;
    }
    table
};

/// Position of the highest set bit, by the highest byte that is not 0: the BPF instruction set has no such instruction
/// before v4, and LLVM's own expansion is long.
#[expect(
    clippy::inline_always,
    reason = "a call in a BPF program costs more than the body"
)]
#[inline(always)]
fn ilog2(v: u64) -> u32 {
    let base = if v < 1 << 16 {
        if v < 1 << 8 { 0 } else { 8 }
    } else if v < 1 << 32 {
        if v < 1 << 24 { 16 } else { 24 }
    } else {
        32
    };
    base + u32::from(LOG2[(v >> base & 0xff) as usize])
}

/// Bucket that `value` falls into, always below [`BUCKETS`].
#[expect(
    clippy::inline_always,
    reason = "a call in a BPF program costs more than the body"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "small by the branches around it"
)]
#[inline(always)]
#[must_use]
pub fn bucket(value: u64) -> usize {
    if value < 1 << SUB_BITS {
        return value as usize;
    }
    if value >> MAX_BITS != 0 {
        return BUCKETS - 1;
    }
    let exponent = ilog2(value);
    let sub = (value >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (((exponent - SUB_BITS + 1) as usize) << SUB_BITS) + sub as usize
}

/// Smallest and largest value of `bucket`, both inclusive. The last bucket has no upper end
/// (`u64::MAX`). A bucket number that does not exist is taken as the last.
#[expect(clippy::cast_possible_truncation, reason = "bucket numbers are small")]
#[must_use]
pub const fn bounds(bucket: usize) -> (u64, u64) {
    let sub_buckets = 1 << SUB_BITS;
    if bucket < sub_buckets {
        return (bucket as u64, bucket as u64);
    }
    let bucket = if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    };
    let exponent = (bucket >> SUB_BITS) as u32 - 1;
    let low = ((sub_buckets + (bucket & (sub_buckets - 1))) as u64) << exponent;
    if bucket == BUCKETS - 1 {
        return (low, u64::MAX);
    }
    (low, low + (1 << exponent) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut next = 0;
        for b in 0..BUCKETS {
            let (low, high) = bounds(b);
            assert_eq!(low, next, "bucket {b}");
            assert_eq!(bucket(low), b);
            assert_eq!(bucket(high), b);
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at u64::MAX");
    }

    proptest! {
        #[test]
        fn a_value_lies_within_the_bounds_of_its_bucket(v: u64) {
            let b = bucket(v);
            prop_assert!(b < BUCKETS);
            let (low, high) = bounds(b);
            prop_assert!(low <= v && v <= high);
        }

        #[test]
        fn a_bucket_is_at_most_an_eighth_of_its_value_wide(v in 8u64..1 << 40) {
            let (low, high) = bounds(bucket(v));
            if high != u64::MAX {
                prop_assert!((high - low + 1) * 8 <= low);
            }
        }
    }
}
