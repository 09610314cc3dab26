//! What a file is that was given for another one, as far as its first bytes tell; for messages.

use std::fmt;

use super::frame;

/// Bytes that are looked at.
const HEAD: usize = 512;

/// What a file seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seems {
    /// What `tracer run --record` writes.
    Recording,
    /// What `tracer run --format json` prints.
    Report,
    /// What `tracer tune plan --format json` prints.
    Plan,
    /// Other JSON.
    Json,
    /// Begins with `#!`.
    Script,
    /// Other text.
    Text,
    /// No text.
    Data,
    /// It is empty.
    Nothing,
}

impl Seems {
    /// By how the file begins.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        let head = head.get(..HEAD).unwrap_or(head).trim_ascii_start();
        if head.is_empty() {
            return Self::Nothing;
        }
        if frame::is_first(head) {
            return Self::Recording;
        }
        if head.starts_with(b"#!") {
            return Self::Script;
        }
        if head.starts_with(b"{") {
            return json(head);
        }
        let is_binary = |byte: &u8| *byte == 0 || *byte == 0x1f || *byte >= 0xf8;
        if head.iter().any(is_binary) {
            Self::Data
        } else {
            Self::Text
        }
    }
}

fn json(head: &[u8]) -> Seems {
    let dense = head.iter().filter(|byte| !byte.is_ascii_whitespace());
    let dense: Vec<u8> = dense.copied().collect();
    let has = |kind: &str| dense.starts_with(format!(r#"{{"kind":"{kind}""#).as_bytes());
    if has("plan") {
        Seems::Plan
    } else if ["window", "event", "summary"].into_iter().any(has) {
        Seems::Report
    } else {
        Seems::Json
    }
}

impl fmt::Display for Seems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recording => "a recording",
            Self::Report => "a report, JSON of 'tracer run'",
            Self::Plan => "a plan, JSON of 'tracer tune plan'",
            Self::Json => "JSON of something else",
            Self::Script => "a script",
            Self::Text => "text",
            Self::Data => "data of another kind",
            Self::Nothing => "empty",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_how_they_begin() {
        let recording = frame::encode(b"{}\n").unwrap();
        for (head, seems) in [
            (&recording[..], Seems::Recording),
            (br#"{"kind":"window","schema":1"#, Seems::Report),
            (b"\n{\n  \"kind\": \"plan\",", Seems::Plan),
            (b"{\"a\":1}", Seems::Json),
            (b"#!/bin/sh\n", Seems::Script),
            (b"root:x:0:0:root:/root:/bin/bash\n", Seems::Text),
            ("5 changes for db7: 0 → f".as_bytes(), Seems::Text),
            (b"\x7fELF\x02\x01\x01\0", Seems::Data),
            (b"\x1f\x8b\x08\0\0\0\0\0", Seems::Data),
            (b"", Seems::Nothing),
        ] {
            assert_eq!(Seems::of(head), seems, "{head:?}");
        }
    }
}
