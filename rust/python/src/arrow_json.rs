//! Rows of Arrow data as JSON objects: `arrow-json`'s writer, with what it leaves open decided.
//!
//! Nulls are written; binary is base64; a dictionary's null is null wherever it is; a date or time that has no text is an
//! error and not a text that says so.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayAccessor, StructArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, FieldRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Whether JSON can be written of this type; otherwise what is in the way.
pub fn check(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::Interval(_) | DataType::Union(_, _) => Err(format!("{data_type} has no form in JSON")),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::RunEndEncoded(_, field) => check(field.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field.data_type())),
        DataType::Dictionary(_, values) => check(values),
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(format!("{data_type} is no map")) };
            match fields.first().map(|key| key.data_type()) {
                Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {}
                _ => return Err("a map whose keys are no strings has no form in JSON".to_owned()),
            }
            fields.iter().skip(1).try_for_each(|field| check(field.data_type()))
        }
        _ => Ok(()),
    }
}

/// What a row could not be written for.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What there was, if anything, since the last look.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }
}

/// How rows are written.
pub fn options(trouble: &Trouble) -> EncoderOptions {
    EncoderOptions::default()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(Factory { trouble: trouble.clone() }))
}

/// The writer of a batch's rows.
pub fn encoder<'a>(
    field: &'a FieldRef,
    rows: &'a StructArray,
    options: &'a EncoderOptions,
) -> Result<NullableEncoder<'a>, ArrowError> {
    make_encoder(field, rows, options)
}

#[derive(Debug)]
struct Factory {
    trouble: Trouble,
}

impl EncoderFactory for Factory {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64(array.as_binary::<i32>())),
            DataType::LargeBinary => Box::new(Base64(array.as_binary::<i64>())),
            DataType::BinaryView => Box::new(Base64(array.as_binary_view())),
            DataType::FixedSizeBinary(_) => Box::new(Base64(array.as_fixed_size_binary())),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = make_encoder(field, dictionary.values().as_ref(), options)?;
                Box::new(Dictionary { keys: dictionary.normalized_keys(), values })
            }
            kind if kind.is_temporal() => {
                let format = FormatOptions::new().with_display_error(false);
                Box::new(Temporal {
                    formatter: ArrayFormatter::try_new(array, &format)?,
                    trouble: self.trouble.clone(),
                    text: String::new(),
                })
            }
            _ => return Ok(None),
        };
        // Logical: a dictionary has nulls among its values, too.
        Ok(Some(NullableEncoder::new(encoder, array.logical_nulls())))
    }
}

struct Base64<B>(B);

impl<'a, B: ArrayAccessor<Item = &'a [u8]>> Encoder for Base64<B> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let bytes = self.0.value(row);
        out.push(b'"');
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // The room is exactly what it takes.
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
        out.truncate(start + written);
        out.push(b'"');
    }
}

struct Dictionary<'a> {
    keys: Vec<usize>,
    values: NullableEncoder<'a>,
}

impl Encoder for Dictionary<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.values.encode(self.keys[row], out);
    }
}

struct Temporal<'a> {
    formatter: ArrayFormatter<'a>,
    trouble: Trouble,
    text: String,
}

impl Encoder for Temporal<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.text.clear();
        if let Err(error) = self.formatter.value(row).write(&mut self.text) {
            self.trouble.note(error.to_string());
        }
        // Digits, letters and punctuation: nothing that JSON escapes.
        out.push(b'"');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'"');
    }
}
