//! The report for a program: one JSON object a line.

use serde::de::Error as _;
use serde_json::Value;

use crate::model::report::Record;

/// One line, without its end. Fails only if the data cannot be JSON, which these types always can.
pub fn line(record: &Record) -> serde_json::Result<String> {
    serde_json::to_string(record)
}

/// A line read back. Fails on what is no [`Record`].
///
/// Serde's own way to read a tagged enum keeps map keys as strings and then refuses them as CPU ids.
pub fn parse(line: &str) -> serde_json::Result<Record> {
    let value: Value = serde_json::from_str(line)?;
    match value.get("kind").and_then(Value::as_str) {
        Some("window") => serde_json::from_value(value).map(Record::Window),
        Some("summary") => serde_json::from_value(value).map(Record::Summary),
        Some("event") => serde_json::from_value(value).map(Record::Event),
        _ => Err(serde_json::Error::custom("no known \"kind\"")),
    }
}
