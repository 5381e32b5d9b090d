//! Owns how values are written as JSON: an object is a line, and its longest list is written an item
//! at a time, so that it takes no memory.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::Value;

/// Writes `object` as a line, with the list of `items` under `key` besides.
///
/// # Errors
/// It can't be written there.
pub fn line(
    out: &mut dyn Write,
    object: &Value,
    key: &str,
    items: impl Iterator<Item = Value>,
) -> io::Result<()> {
    let text = object.to_string();
    let fields = text.strip_suffix('}').unwrap_or(&text);
    let comma = if fields == "{" { "" } else { "," };
    write!(out, "{fields}{comma}{}:", Value::from(key))?;
    list(out, items)?;
    out.write_all(b"}\n")
}

/// Writes a list of what is JSON already.
///
/// # Errors
/// It can't be written there.
pub fn list(out: &mut dyn Write, items: impl Iterator<Item = impl Display>) -> io::Result<()> {
    out.write_all(b"[")?;
    for (number, item) in items.enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}{item}")?;
    }
    out.write_all(b"]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_what_was_meant() {
        let cases = [
            (json!({}), json!([])),
            (json!({"a": "}\"\n"}), json!([1])),
            (json!({"a": {"b": []}, "c": null}), json!([{"d": 1.5}, [], "\u{e9}"])),
        ];
        for (object, items) in cases {
            let mut out = Vec::new();
            let all = items.as_array().unwrap().iter().cloned();
            line(&mut out, &object, "list", all).unwrap();
            let mut expected = object;
            expected["list"] = items;
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{text}");
        }
    }
}
