//! The check of a topic's name.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::runtime::{errors, upcalls};

/// Kafka's limit for the name of a topic (Java: `Topic.MAX_NAME_LENGTH`).
const MAX_TOPIC_LENGTH: usize = 249;

/// Check a topic's name as brokers do (Java: `Topic.validate`).
pub fn check_topic(py: Python<'_>, topic: &str) -> PyResult<()> {
    let shape = !topic.is_empty() && topic.len() <= MAX_TOPIC_LENGTH && topic != "." && topic != "..";
    if shape && topic.bytes().all(|byte| LEGAL[usize::from(byte)]) {
        return Ok(());
    }
    Err(illegal_topic(py, topic))
}

/// The characters of a topic's name.
const LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        legal[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    legal
};

#[cold]
fn illegal_topic(py: Python<'_>, topic: &str) -> PyErr {
    let why = if topic.is_empty() {
        "it is empty".to_owned()
    } else if topic == "." || topic == ".." {
        "\".\" and \"..\" are not allowed".to_owned()
    } else if topic.len() > MAX_TOPIC_LENGTH {
        format!("it has {} characters, more than {MAX_TOPIC_LENGTH}", topic.chars().count())
    } else {
        let bad = topic.chars().find(|&c| !u8::try_from(c).is_ok_and(|byte| LEGAL[usize::from(byte)]));
        format!("it contains {:?}", bad.unwrap_or_default())
    };
    let context = [("topic", PyString::new(py, topic).into_any())];
    errors::error(py, &upcalls::INVALID_TOPIC_ERROR, &format!("illegal topic name: {why}"), &context)
}
