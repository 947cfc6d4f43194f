//! Rows of Arrow data as JSON objects, by `arrow-json`'s writer, with encoders of our own where it leaves a choice.
//!
//! Nulls are written; binary is base64, and a UUID its text; a dictionary's null is null wherever it is; a date or time that
//! has no text is an error and not a text that says so. A decimal has all its digits, also those beyond its type's precision.
//! Lists, maps and runs are ours too, because arrow-json's encoders for them do not give the factory the field of the elements.

use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Int8Type, Int16Type, Int32Type,
    Int64Type, RunEndIndexType,
};
use arrow_array::{
    AnyDictionaryArray, Array, ArrayAccessor, FixedSizeBinaryArray, ListLikeArray, PrimitiveArray, RunArray,
    StructArray,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, FieldRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bulk::arrow::extension::{UNSIGNED, extension};
use crate::record::serialize::write_uuid;

/// An error if values of this type have no form in JSON.
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
                _ => return Err("a map without string keys cannot be written as JSON".to_owned()),
            }
            fields.iter().skip(1).try_for_each(|field| check(field.data_type()))
        }
        _ => Ok(()),
    }
}

/// Why a row could not be written.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// The reason since the last call, if there was one.
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
            DataType::FixedSizeBinary(_) => match extension(field, array.data_type()) {
                Some(_) => Box::new(Uuids(array.as_fixed_size_binary())),
                None => Box::new(Base64(array.as_fixed_size_binary())),
            },
            DataType::Int8 if extension(field, array.data_type()).is_some() => Box::new(Booleans(array.as_primitive())),
            DataType::Decimal32(_, scale) => Box::new(Decimals::<Decimal32Type>::new(array, *scale)),
            DataType::Decimal64(_, scale) => Box::new(Decimals::<Decimal64Type>::new(array, *scale)),
            DataType::Decimal128(_, scale) => {
                let unsigned = field.metadata().contains_key(UNSIGNED);
                Box::new(Decimals::<Decimal128Type> { unsigned, ..Decimals::new(array, *scale) })
            }
            DataType::Decimal256(_, scale) => Box::new(Decimals::<Decimal256Type>::new(array, *scale)),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = make_encoder(field, dictionary.values().as_ref(), options)?;
                Box::new(Dictionary { keys: dictionary_keys(dictionary)?, values })
            }
            DataType::List(inner) => list(inner, array.as_list::<i32>(), options)?,
            DataType::LargeList(inner) => list(inner, array.as_list::<i64>(), options)?,
            DataType::ListView(inner) => list(inner, array.as_list_view::<i32>(), options)?,
            DataType::LargeListView(inner) => list(inner, array.as_list_view::<i64>(), options)?,
            DataType::FixedSizeList(inner, _) => list(inner, array.as_fixed_size_list(), options)?,
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let DataType::Struct(fields) = entries.data_type() else { return Ok(None) };
                let keys = make_encoder(&fields[0], map.keys().as_ref(), options)?;
                if map.keys().null_count() + map.entries().null_count() > 0 {
                    return Err(ArrowError::InvalidArgumentError("a key of a map is null".to_owned()));
                }
                let values = make_encoder(&fields[1], map.values().as_ref(), options)?;
                Box::new(Map { ends: map.offsets(), keys, values })
            }
            DataType::RunEndEncoded(ends, values) => match ends.data_type() {
                DataType::Int16 => runs::<Int16Type>(values, array, options)?,
                DataType::Int32 => runs::<Int32Type>(values, array, options)?,
                _ => runs::<Int64Type>(values, array, options)?,
            },
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
        // The room is exactly enough.
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
        out.truncate(start + written);
        out.push(b'"');
    }
}

struct Uuids<'a>(&'a FixedSizeBinaryArray);

impl Encoder for Uuids<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        write_uuid(self.0.value(row), out);
        out.push(b'"');
    }
}

struct Booleans<'a>(&'a PrimitiveArray<Int8Type>);

impl Encoder for Booleans<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.0.value(row) == 0 { b"false" } else { b"true" });
    }
}

struct Decimals<'a, T: DecimalType> {
    array: &'a PrimitiveArray<T>,
    scale: i8,
    unsigned: bool,
    text: String,
}

impl<'a, T: DecimalType> Decimals<'a, T> {
    fn new(array: &'a dyn Array, scale: i8) -> Self {
        Self { array: array.as_primitive(), scale, unsigned: false, text: String::new() }
    }
}

impl<T: DecimalType<Native: Display>> Encoder for Decimals<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.text.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{}", self.array.value(row));
        if self.unsigned
            && let Ok(number) = self.text.parse::<i128>()
        {
            self.text.clear();
            let _ = write!(self.text, "{}", number as u128);
        }
        write_decimal(&self.text, self.scale, out);
    }
}

/// The number `unscaled` · 10^-`scale`, with as many decimal places as the scale says.
fn write_decimal(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let digits = unscaled.strip_prefix('-').unwrap_or(unscaled);
    if digits.len() < unscaled.len() {
        out.push(b'-');
    }
    let zeros = |count: usize| std::iter::repeat_n(b'0', count);
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        out.extend(zeros(if digits == "0" { 0 } else { places }));
    } else if digits.len() > places {
        let (whole, fraction) = digits.split_at(digits.len() - places);
        out.extend_from_slice(whole.as_bytes());
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    } else {
        out.extend_from_slice(b"0.");
        out.extend(zeros(places - digits.len()));
        out.extend_from_slice(digits.as_bytes());
    }
}

/// One of the values, or null.
fn write_value(values: &mut NullableEncoder<'_>, index: usize, out: &mut Vec<u8>) {
    if values.is_null(index) {
        out.extend_from_slice(b"null");
    } else {
        values.encode(index, out);
    }
}

struct List<'a, L> {
    list: &'a L,
    values: NullableEncoder<'a>,
}

fn list<'a, L: ListLikeArray>(
    inner: &'a FieldRef,
    list: &'a L,
    options: &'a EncoderOptions,
) -> Result<Box<dyn Encoder + 'a>, ArrowError> {
    Ok(Box::new(List { list, values: make_encoder(inner, list.values().as_ref(), options)? }))
}

impl<L: ListLikeArray> Encoder for List<'_, L> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        for (position, index) in self.list.element_range(row).enumerate() {
            if position > 0 {
                out.push(b',');
            }
            write_value(&mut self.values, index, out);
        }
        out.push(b']');
    }
}

struct Map<'a> {
    ends: &'a [i32],
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
}

impl Encoder for Map<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let (start, end) = (self.ends[row] as usize, self.ends[row + 1] as usize);
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            self.keys.encode(index, out);
            out.push(b':');
            write_value(&mut self.values, index, out);
        }
        out.push(b'}');
    }
}

struct Runs<'a, R: RunEndIndexType> {
    runs: &'a RunArray<R>,
    values: NullableEncoder<'a>,
}

fn runs<'a, R: RunEndIndexType>(
    values: &'a FieldRef,
    array: &'a dyn Array,
    options: &'a EncoderOptions,
) -> Result<Box<dyn Encoder + 'a>, ArrowError> {
    let runs: &RunArray<R> = array.as_run();
    Ok(Box::new(Runs { runs, values: make_encoder(values, runs.values().as_ref(), options)? }))
}

impl<R: RunEndIndexType> Encoder for Runs<'_, R> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.values.encode(self.runs.get_physical_index(row), out);
    }
}

/// Where each row's value is. Of a null there may be none: a dictionary without values has nothing but nulls.
pub fn dictionary_keys(dictionary: &dyn AnyDictionaryArray) -> Result<Vec<usize>, ArrowError> {
    if !dictionary.values().is_empty() {
        return Ok(dictionary.normalized_keys());
    }
    if dictionary.logical_null_count() < dictionary.len() {
        return Err(ArrowError::InvalidArgumentError("a dictionary has no value for one of its keys".to_owned()));
    }
    Ok(vec![0; dictionary.len()])
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
        } else if self.text.starts_with('<') {
            // The formatter's text for a duration that it cannot hold.
            self.trouble.note("a duration is out of range".to_owned());
        }
        // Digits, letters and punctuation: nothing that JSON escapes.
        out.push(b'"');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'"');
    }
}
