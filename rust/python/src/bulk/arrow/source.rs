//! The data of a `send_arrow` as a stream of record batches: a stream, a table or a single batch of any library.
//!
//! `penstock.facade.arrow_sources` prepares it first: data that a library exports in a form that would be misread is replaced there
//! and marked. A [`Stream`] applies the marks, so that its batches have the types that the library meant.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3_arrow::ffi::ArrayReader;
use pyo3_arrow::{PyArray, PyArrayReader};

use crate::bulk::arrow::extension::UNSIGNED;
use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::plan::Notes;
use crate::runtime::upcalls;

/// Why data cannot be read: it does not keep to the Arrow format, or its source failed.
pub struct Broken(pub String);

/// Call into the libraries that read foreign data, which panic at some of what does not keep to the format.
pub fn guarded<T>(act: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(Broken(error.to_string())),
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Broken(format!("the data does not keep to the Arrow format ({why})")))
        }
    }
}

pub fn unreadable(why: &str) -> PyErr {
    PyValueError::new_err(format!("the Arrow data cannot be read: {why}"))
}

fn guarded_py<T>(act: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(made) => made,
        Err(_) => Err(unreadable("it does not keep to the Arrow format")),
    }
}

/// Where the arrays come from.
enum Pieces {
    Stream(Box<dyn ArrayReader + Send>),
    One(ArrayRef),
    None,
}

/// A property of a part of the data that its type does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Null,
    Unsigned,
}

/// Where a mark belongs: a column, then a child at each level below it.
type Marks<'a> = Vec<(&'a [usize], Mark)>;

/// Record batches, one after the other.
pub struct Stream {
    pieces: Pieces,
    schema: SchemaRef,
    marks: Vec<(Vec<usize>, Mark)>,
}

/// The result of `penstock.facade.arrow_sources.prepare`.
#[derive(FromPyObject)]
struct Prepared<'py> {
    data: Bound<'py, PyAny>,
    refused: HashMap<usize, String>,
    nulls: Vec<Vec<usize>>,
    unsigned: Vec<Vec<usize>>,
}

/// The batches of `data`, and properties of its columns that their types do not say.
pub fn open(data: &Bound<'_, PyAny>, names: &Names) -> PyResult<(Stream, Notes)> {
    let py = data.py();
    let prepared: Prepared<'_> = upcalls::PREPARE.get(py)?.call1((data, names.index, names.columns()))?.extract()?;
    let mut stream = Stream::open(&prepared.data)?;
    if stream.schema.fields().iter().any(|field| has_null(field.data_type())) {
        let again = upcalls::REREAD.get(py)?.call1((&prepared.data,))?;
        if !again.is_none() {
            let first = std::mem::replace(&mut stream, Stream::open(&again)?);
            py.detach(move || drop(first)); // as a `Rowing` is
        }
    }
    stream.mark(prepared.nulls, prepared.unsigned);
    // pandas' own columns come last: of two with one name the other one is the user's.
    let position = |name: &String| stream.schema.fields().iter().rposition(|field| field.name() == name);
    let left_out: Vec<String> = match stream.schema.metadata().get("pandas") {
        Some(text) => upcalls::LEVELS_LEFT_OUT.get(py)?.call1((text, names.index))?.extract()?,
        None => Vec::new(),
    };
    let left_out = left_out.iter().filter_map(position).collect();
    Ok((stream, Notes { refused: prepared.refused, left_out }))
}

impl Stream {
    fn open(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = data.py();
        // A stream first: a table has both, and its batches need not be put together.
        let (pieces, field) = if data.hasattr(intern!(py, "__arrow_c_stream__"))? {
            guarded_py(|| {
                let reader = data.extract::<PyArrayReader>()?.into_reader()?;
                let field = reader.field();
                Ok((Pieces::Stream(reader), field))
            })?
        } else if data.hasattr(intern!(py, "__arrow_c_array__"))? {
            guarded_py(|| {
                let (array, field) = data.extract::<PyArray>()?.into_inner();
                Ok((Pieces::One(array), field))
            })?
        } else {
            let hint = if data.hasattr(intern!(py, "collect"))? { " (collect() it first?)" } else { "" };
            return Err(PyTypeError::new_err(format!("{NO_TABLE}, not {}{hint}", data.get_type())));
        };
        let DataType::Struct(fields) = field.data_type() else {
            return Err(PyTypeError::new_err(format!(
                "{NO_TABLE}, not {}, which is a single column of type {}; make it a column of a table, such as \
                 pyarrow.table({{\"value\": data}})",
                data.get_type(),
                field.data_type()
            )));
        };
        let schema = Arc::new(Schema::new_with_metadata(fields.clone(), field.metadata().clone()));
        Ok(Self { pieces, schema, marks: Vec::new() })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The same without a source.
    pub fn emptied(&self) -> Self {
        Self { pieces: Pieces::None, schema: self.schema(), marks: Vec::new() }
    }

    /// Give parts of the data the types that they are meant to have.
    fn mark(&mut self, nulls: Vec<Vec<usize>>, unsigned: Vec<Vec<usize>>) {
        let nulls = nulls.into_iter().map(|path| (path, Mark::Null));
        self.marks = nulls.chain(unsigned.into_iter().map(|path| (path, Mark::Unsigned))).collect();
        if self.marks.is_empty() {
            return;
        }
        let all: Marks<'_> = self.marks.iter().map(|(path, mark)| (&path[..], *mark)).collect();
        let fields = marked_fields(self.schema.fields(), &all);
        self.schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
    }

    /// The next batch.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let array = match std::mem::replace(&mut self.pieces, Pieces::None) {
            Pieces::None => return Ok(None),
            Pieces::One(array) => array,
            Pieces::Stream(mut reader) => match reader.next() {
                None => return Ok(None),
                Some(array) => {
                    let array = array.map_err(|error| self.explained(error))?;
                    self.pieces = Pieces::Stream(reader);
                    array
                }
            },
        };
        let Some(rows) = array.as_any().downcast_ref::<StructArray>() else {
            return Err(ArrowError::SchemaError("a batch is no struct of columns".to_owned()));
        };
        if let Some(nulls) = rows.nulls().filter(|nulls| nulls.null_count() > 0) {
            let row = (0..rows.len()).find(|&row| nulls.is_null(row)).unwrap_or_default();
            let why = format!("row {row} of a batch is null as a whole: a column of structs with nulls is no table");
            return Err(ArrowError::InvalidArgumentError(why));
        }
        let columns = rows.columns().iter().enumerate().map(|(index, column)| self.marked(index, column));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.schema(), columns, &options).map(Some)
    }

    fn marked(&self, index: usize, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let marks = below(index, &self.marks.iter().map(|(path, mark)| (&path[..], *mark)).collect());
        if marks.is_empty() {
            return Ok(Arc::clone(column));
        }
        Ok(make_array(marked_data(column.to_data(), &marks)?))
    }

    /// The Arrow crate's own message names no column.
    fn explained(&self, error: ArrowError) -> ArrowError {
        let text = error.to_string();
        let nulls = self.schema.fields().iter().find(|field| has_null(field.data_type()));
        match nulls {
            Some(field) if text.contains("\"Null\"") => ArrowError::CDataInterface(format!(
                "column {:?} is of type {}, and a Null in it has a buffer, which the Arrow format does not provide; hand over \
                 what pyarrow reads (pyarrow.table(data)), or cast the column to another type ({text})",
                field.name(),
                field.data_type()
            )),
            _ => error,
        }
    }
}

const NO_TABLE: &str = "data must be a table, frame or record batch: anything with __arrow_c_stream__ or __arrow_c_array__ whose rows are records";

/// The marks of one child.
fn below<'a>(child: usize, marks: &Marks<'a>) -> Marks<'a> {
    marks.iter().filter(|(path, _)| path.first() == Some(&child)).map(|(path, mark)| (&path[1..], *mark)).collect()
}

fn marked_fields(fields: &Fields, marks: &Marks<'_>) -> Fields {
    fields.iter().enumerate().map(|(index, field)| marked_field(field, &below(index, marks))).collect()
}

fn marked_field(field: &FieldRef, marks: &Marks<'_>) -> FieldRef {
    if marks.is_empty() {
        return Arc::clone(field);
    }
    let mut made: Field = field.as_ref().clone().with_data_type(marked_type(field.data_type(), marks));
    if marks.contains(&(&[], Mark::Unsigned)) {
        made.metadata_mut().insert(UNSIGNED.to_owned(), String::new());
    }
    Arc::new(made)
}

fn marked_type(data_type: &DataType, marks: &Marks<'_>) -> DataType {
    if marks.contains(&(&[], Mark::Null)) {
        return DataType::Null;
    }
    let child = |field: &FieldRef| marked_field(field, &below(0, marks));
    match data_type {
        DataType::List(field) => DataType::List(child(field)),
        DataType::LargeList(field) => DataType::LargeList(child(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(child(field), *size),
        DataType::Map(entries, sorted) => DataType::Map(child(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(marked_fields(fields, marks)),
        other => other.clone(),
    }
}

/// `data` as of its marked type.
fn marked_data(data: ArrayData, marks: &Marks<'_>) -> Result<ArrayData, ArrowError> {
    if marks.is_empty() {
        return Ok(data);
    }
    if marks.contains(&(&[], Mark::Null)) {
        return Ok(ArrayData::new_null(&DataType::Null, data.len()));
    }
    let children = data.child_data().iter().enumerate();
    let children = children.map(|(index, child)| marked_data(child.clone(), &below(index, marks)));
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let data_type = marked_type(data.data_type(), marks);
    data.into_builder().data_type(data_type).child_data(children).build()
}

fn has_null(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::RunEndEncoded(_, field)
        | DataType::Map(field, _) => has_null(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_null(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_null(field.data_type())),
        DataType::Dictionary(_, values) => has_null(values),
        _ => false,
    }
}
