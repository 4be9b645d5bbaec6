//! Writing bencode: a value, and its one canonical form (BEP 3).

use std::collections::BTreeMap;

/// Something to encode. Dictionaries sort themselves: what is encoded is always canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `i…e`
    Int(i64),
    /// `n:…`
    Bytes(Vec<u8>),
    /// `l…e`
    List(Vec<Value>),
    /// `d…e`
    Dict(BTreeMap<Vec<u8>, Value>),
    /// A value that is encoded already, by [`encode_string`] and [`encode_int`]: a long list, whose values
    /// would take much memory.
    Encoded(Vec<u8>),
}

impl Value {
    /// A dictionary. Of a repeated key the last value counts.
    pub fn dict<K: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        // Not collected: that sorts first, by some 4 KB of code for each type of `entries`.
        let mut dict = BTreeMap::new();
        dict.extend(entries.into_iter().map(|(key, value)| (key.into(), value)));
        Value::Dict(dict)
    }

    /// A list.
    pub fn list<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends its bytes to `out`. Recurses as deep as the value, which is our own and not a stranger's.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Value::Int(value) => encode_int(*value, out),
            Value::Bytes(bytes) => encode_string(bytes, out),
            Value::Encoded(bytes) => out.extend_from_slice(bytes),
            Value::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.encode_into(out));
                out.push(b'e');
            }
            Value::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    encode_string(key, out);
                    value.encode_into(out);
                }
                out.push(b'e');
            }
        }
    }
}

/// Appends the integer `value`.
pub fn encode_int(value: i64, out: &mut Vec<u8>) {
    out.push(b'i');
    if value < 0 {
        out.push(b'-');
    }
    encode_digits(value.unsigned_abs(), out);
    out.push(b'e');
}

/// Appends the string of these bytes.
pub fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    encode_digits(bytes.len() as u64, out);
    out.push(b':');
    out.extend_from_slice(bytes);
}

fn encode_digits(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Bytes(bytes)
    }
}
