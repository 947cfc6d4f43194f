//! Which column of Arrow data becomes what: decided by the schema alone, before the first row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::bulk::arrow::extension::{Extension, extension};
use crate::bulk::arrow::json;
use crate::bulk::arrow::names::{Given, Names};

/// Why a column cannot be used.
pub struct Wrong {
    /// The exception for a wrong name or type.
    kind: fn(String) -> PyErr,
    message: String,
}

impl From<Wrong> for PyErr {
    fn from(wrong: Wrong) -> Self {
        (wrong.kind)(wrong.message)
    }
}

fn no_value(message: String) -> Wrong {
    Wrong { kind: PyValueError::new_err, message }
}

fn no_type(message: String) -> Wrong {
    Wrong { kind: PyTypeError::new_err, message }
}

/// How a column's cells become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Binary or text of any layout, unchanged.
    Bytes,
    /// Java's Short, Integer, Long, Float and Double serializers: big-endian.
    Number,
    /// Java's Boolean serializer: one byte.
    Boolean,
    /// Nothing but null.
    Null,
}

/// Where a key or value comes from.
pub enum ColumnSource {
    /// Null for all.
    None,
    /// One column.
    Column(usize),
    /// A JSON object of these columns.
    Json(Vec<usize>),
}

/// Where a record goes.
pub enum Target {
    Choose,
    All(i32),
    Column(usize),
}

/// Which column becomes what.
pub struct Plan {
    pub schema: Arc<Schema>,
    pub key: ColumnSource,
    pub value: ColumnSource,
    pub target: Target,
    pub timestamp: Option<usize>,
    pub headers: Option<usize>,
}

/// Properties of columns that their types do not say.
#[derive(Default)]
pub struct Notes {
    /// Why a column cannot be sent, by its index.
    pub refused: HashMap<usize, String>,
    /// Columns that are no fields of the whole row.
    pub left_out: Vec<usize>,
}

impl Plan {
    pub fn new(schema: Arc<Schema>, names: &Names, notes: &Notes) -> Result<Self, Wrong> {
        let columns = Columns { schema: &schema, refused: &notes.refused };
        let target = match &names.target {
            None | Some(Given::Columns(_)) => Target::Choose,
            Some(Given::Number(number)) => Target::All(*number),
            Some(Given::Column(name)) => {
                let index = columns.find("partition", name)?;
                let data_type = schema.field(index).data_type();
                if !data_type.is_integer() && !data_type.is_null() {
                    return Err(columns.unfit(index, "partition", "an integer column is needed; cast it to int32"));
                }
                Target::Column(index)
            }
        };
        let timestamp = names.timestamp.as_ref().map(|name| columns.find("timestamp", name)).transpose()?;
        if let Some(index) = timestamp
            && !matches!(schema.field(index).data_type(), DataType::Int64 | DataType::Timestamp(_, _) | DataType::Null)
        {
            let why = "an Arrow timestamp is needed, or int64 with ms since the epoch; cast it to one of these";
            return Err(columns.unfit(index, "timestamp", why));
        }
        let headers = names.headers.as_ref().map(|name| columns.find("headers", name)).transpose()?;
        if let Some(index) = headers
            && !are_headers(schema.field(index).data_type())
        {
            let why = "a map from strings to binary or strings is needed, or a list of structs of these two";
            return Err(columns.unfit(index, "headers", why));
        }
        let value = match &names.value {
            None => {
                // All columns but the partition's and the headers'.
                let routing = match target {
                    Target::Column(index) => Some(index),
                    _ => None,
                };
                let row: Vec<usize> = (0..schema.fields().len())
                    .filter(|&index| {
                        Some(index) != routing && Some(index) != headers && !notes.left_out.contains(&index)
                    })
                    .collect();
                columns.json("value", row)?
            }
            Some(given) => columns.source("value", given)?,
        };
        let key = names.key.as_ref().map_or(Ok(ColumnSource::None), |given| columns.source("key", given))?;
        Ok(Self { schema, key, value, target, timestamp, headers })
    }
}

/// The columns to choose from.
struct Columns<'a> {
    schema: &'a Schema,
    refused: &'a HashMap<usize, String>,
}

impl Columns<'_> {
    fn find(&self, role: &str, name: &str) -> Result<usize, Wrong> {
        let fields = self.schema.fields();
        let mut found = fields.iter().enumerate().filter(|(_, field)| field.name() == name);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => self.usable(role, index).map(|()| index),
            (Some(_), Some(_)) => Err(no_value(format!("{role}: there is more than one column {name:?}; rename them"))),
            (None, _) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                Err(no_value(format!("{role}: there is no column {name:?}; there are: {}", names.join(", "))))
            }
        }
    }

    /// An error if the column cannot be sent, whatever it would be.
    fn usable(&self, role: &str, index: usize) -> Result<(), Wrong> {
        let Some(why) = self.refused.get(&index) else { return Ok(()) };
        let name = self.schema.field(index).name();
        Err(no_type(format!(
            "{role}: column {name:?} {why}; convert it first, or name only other columns ({role}=[…])"
        )))
    }

    fn unfit(&self, index: usize, role: &str, why: &str) -> Wrong {
        let field = self.schema.field(index);
        no_type(format!("{role}: column {:?} is of type {}: {why}", field.name(), field.data_type()))
    }

    fn source(&self, role: &str, given: &Given) -> Result<ColumnSource, Wrong> {
        match given {
            Given::Columns(names) => {
                let columns = names.iter().map(|name| self.find(role, name)).collect::<Result<_, _>>()?;
                self.json(role, columns)
            }
            Given::Column(name) => {
                let index = self.find(role, name)?;
                form(self.schema.field(index)).ok_or_else(|| {
                    let advice = format!(
                        "it has no bytes of its own; name it in a list ({role}=[{name:?}]) to write JSON, or cast it to \
                         binary, string, int16, int32, int64, float32, float64 or bool"
                    );
                    self.unfit(index, role, &advice)
                })?;
                Ok(ColumnSource::Column(index))
            }
            Given::Number(_) => Ok(ColumnSource::None),
        }
    }

    fn json(&self, role: &str, columns: Vec<usize>) -> Result<ColumnSource, Wrong> {
        if columns.is_empty() {
            return Err(no_value(format!("{role}: there is no column left to write")));
        }
        for (position, &index) in columns.iter().enumerate() {
            self.usable(role, index)?;
            let field = self.schema.field(index);
            if let Err(why) = json::check(field.data_type()) {
                let advice = format!("{why}; cast it, or leave it out of {role}=[…]");
                return Err(self.unfit(index, role, &advice));
            }
            if columns[..position].iter().any(|&other| self.schema.field(other).name() == field.name()) {
                let name = field.name();
                return Err(no_value(format!("{role}: there is more than one column {name:?}; rename them")));
            }
        }
        Ok(ColumnSource::Json(columns))
    }
}

fn form(field: &Field) -> Option<Form> {
    match extension(field, field.data_type()) {
        Some(Extension::Uuid) => Some(Form::Bytes),
        Some(Extension::Bool8) => Some(Form::Boolean),
        None => form_of(field.data_type()),
    }
}

fn form_of(data_type: &DataType) -> Option<Form> {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View => Some(Form::Bytes),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64 => {
            Some(Form::Number)
        }
        DataType::Boolean => Some(Form::Boolean),
        DataType::Null => Some(Form::Null),
        DataType::Dictionary(_, values) => form_of(values),
        _ => None,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(form_of(data_type), Some(Form::Bytes | Form::Null))
}

fn are_headers(data_type: &DataType) -> bool {
    let (DataType::Map(entries, _) | DataType::List(entries) | DataType::LargeList(entries)) = data_type else {
        return data_type.is_null();
    };
    match entries.data_type() {
        // The type that a library gives to lists that are all empty.
        DataType::Null => true,
        DataType::Struct(fields) => {
            matches!(&fields[..], [key, value] if is_text(key.data_type()) && is_bytes(value.data_type()))
        }
        _ => false,
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        // A name that is null is an error of its row, if there is one.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}
