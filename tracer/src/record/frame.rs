//! Frames: gzip members that follow each other, each with its own length.
//!
//! The length stands in the member's extra field (RFC 1952, 2.3.1.1), subfield `TR`, as little-endian u32 and once more
//! with all bits turned. So a reader tells a file that ends early from one that is damaged; `zcat` passes over it.

use std::io::{self, Read};

use flate2::{Crc, bufread::GzDecoder};
use libdeflater::{CompressionLvl, Compressor};

/// Magic, deflate, extra field, no time, no flags of the compressor, no system, 12 bytes of extra field: 8 in `TR`.
const PREFIX: [u8; 16] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 12, 0, b'T', b'R', 8, 0,
];
/// With both lengths.
const HEAD: usize = PREFIX.len() + 8;
/// Largest member, and largest text of one.
const LARGEST: u32 = 1 << 28;

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The file ends within a frame.
    #[error("it ends in the middle of a frame")]
    Truncated,
    /// Something else begins where a frame should.
    #[error("there is no frame where one should begin")]
    NoFrame,
    /// A frame that is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// The file could not be read.
    #[error("cannot read on: {0}")]
    Io(#[from] io::Error),
}

/// Whether a file that starts with `bytes` can begin with a frame: no text does.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.first() == PREFIX.first()
}

/// Whether a file that starts with `bytes` begins with a frame.
#[must_use]
pub fn is_first(bytes: &[u8]) -> bool {
    bytes.starts_with(&PREFIX)
}

/// One frame.
pub fn encode(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = PREFIX.to_vec();
    frame.extend([0; 8]);
    deflate(text, &mut frame)?;
    let mut crc = Crc::new();
    crc.update(text);
    frame.extend(crc.sum().to_le_bytes());
    frame.extend(crc.amount().to_le_bytes());
    let length = u32::try_from(frame.len()).ok().filter(|l| *l <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("a frame grew too large"))?;
    frame[PREFIX.len()..][..4].copy_from_slice(&length.to_le_bytes());
    frame[PREFIX.len() + 4..][..4].copy_from_slice(&(!length).to_le_bytes());
    Ok(frame)
}

/// Appends `text`, compressed as far as deflate goes: libdeflate looks for the shortest way to tell rows of numbers, which
/// takes a tenth less than zlib's search, in the time of the recorder's own thread.
fn deflate(text: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    let mut compressor = Compressor::new(CompressionLvl::best());
    let begin = to.len();
    to.resize(begin + compressor.deflate_compress_bound(text.len()), 0);
    let written = compressor.deflate_compress(text, &mut to[begin..]);
    let written = written.map_err(|error| io::Error::other(format!("cannot compress: {error}")))?;
    to.truncate(begin + written);
    Ok(())
}

/// The text of the next frame; `None` at the end of the file.
pub fn decode(file: &mut impl Read) -> Result<Option<Vec<u8>>, Broken> {
    let frame = take(file, HEAD)?;
    if frame.is_empty() {
        return Ok(None);
    }
    if frame.len() < HEAD {
        let is_begin = frame.iter().zip(&PREFIX).all(|(is, wanted)| is == wanted);
        return Err(short(is_begin, &frame));
    }
    let Some(length) = length(&frame) else {
        return Err(no_frame(file, &frame)?);
    };
    let mut member = frame;
    let missing = length - HEAD;
    let rest = take(file, missing)?;
    if rest.len() < missing {
        return Err(Broken::Truncated);
    }
    member.extend(rest);
    let mut text = Vec::new();
    let mut decoder = GzDecoder::new(&member[..]);
    (&mut decoder)
        .take(u64::from(LARGEST) + 1)
        .read_to_end(&mut text)
        .map_err(|error| Broken::Damaged(format!("a frame is damaged ({error})")))?;
    if text.len() > LARGEST as usize || !decoder.into_inner().is_empty() {
        return Err(Broken::Damaged("a frame is longer than it says".to_owned()));
    }
    Ok(Some(text))
}

/// The length of a frame that begins like this; `None` if none does.
fn length(head: &[u8]) -> Option<usize> {
    let (lengths, _) = head.strip_prefix(&PREFIX)?.as_chunks::<4>();
    let [length, turned] = lengths else {
        return None;
    };
    let (length, turned) = (u32::from_le_bytes(*length), u32::from_le_bytes(*turned));
    let length = (length == !turned && length <= LARGEST).then_some(length)?;
    usize::try_from(length).ok().filter(|length| *length > HEAD)
}

/// What it is instead of a frame that begins with `head`. After a power failure a file may end in zeros.
fn no_frame(file: &mut impl Read, head: &[u8]) -> io::Result<Broken> {
    let mut zeros = is_zero(head);
    let mut buffer = vec![0; 1 << 16];
    while zeros {
        match file.read(&mut buffer)? {
            0 => return Ok(Broken::Truncated),
            read => zeros = is_zero(&buffer[..read]),
        }
    }
    Ok(Broken::NoFrame)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn short(is_begin: bool, rest: &[u8]) -> Broken {
    if is_begin || is_zero(rest) {
        Broken::Truncated
    } else {
        Broken::NoFrame
    }
}

/// So many bytes, fewer at the end of the file.
fn take(file: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut taken = Vec::new();
    file.take(bytes as u64).read_to_end(&mut taken)?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gzip_reads_frames_one_after_the_other() {
        let file = [encode(b"one\n").unwrap(), encode(b"two\n").unwrap()].concat();
        let mut text = String::new();
        let mut gzip = flate2::read::MultiGzDecoder::new(&file[..]);
        gzip.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn zeros_behind_the_last_frame_are_an_early_end() {
        for zeros in [3, 40, 100_000] {
            let file = [encode(b"one\n").unwrap(), vec![0; zeros]].concat();
            let mut rest = &file[..];
            assert_eq!(decode(&mut rest).unwrap().unwrap(), b"one\n");
            assert!(matches!(decode(&mut rest), Err(Broken::Truncated)));
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_off_is_truncated_and_the_frames_before_are_whole(
            first: Vec<u8>, second: Vec<u8>, cut: prop::sample::Index,
        ) {
            let frames = [encode(&first).unwrap(), encode(&second).unwrap()];
            let whole = frames.concat();
            let at = cut.index(whole.len());
            let mut file = &whole[..at];
            let mut read = 0;
            let end = loop {
                match decode(&mut file) {
                    Ok(Some(_)) => read += 1,
                    end => break end,
                }
            };
            prop_assert_eq!(read, usize::from(at >= frames[0].len()));
            if at == 0 || at == frames[0].len() {
                prop_assert!(matches!(end, Ok(None)));
            } else {
                prop_assert!(matches!(end, Err(Broken::Truncated)), "{:?}", end);
            }
        }

        #[test]
        fn a_changed_byte_is_damage_or_changes_nothing(text: Vec<u8>, at: prop::sample::Index, by in 1u8..) {
            let mut frame = encode(&text).unwrap();
            let at = at.index(frame.len());
            frame[at] ^= by;
            let read = decode(&mut &frame[..]);
            // Some bits of deflate are padding.
            let harmless = matches!(&read, Ok(Some(same)) if *same == text);
            let found = matches!(read, Err(Broken::Damaged(_) | Broken::NoFrame));
            prop_assert!(harmless || found, "byte {}: {:?}", at, read);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut file = &bytes[..];
            while let Ok(Some(_)) = decode(&mut file) {}
        }
    }
}
