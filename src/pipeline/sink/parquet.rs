//! Records as a Parquet file: a column for each field, of the narrowest type that holds all of its values. The only door
//! to the parquet crate.

use std::io;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

/// What a column holds. Lists and objects are JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
}

/// Returns a file of the records that these JSON lines are. The same lines give the same bytes.
pub(super) fn file_of<'r>(lines: impl Iterator<Item = &'r str>) -> io::Result<Vec<u8>> {
    let rows: Vec<Map<String, Value>> =
        lines.map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect::<io::Result<_>>()?;
    let mut columns: Vec<(String, Option<Kind>)> = Vec::new();
    for row in &rows {
        for (name, value) in row {
            let at = columns.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                columns.push((name.clone(), None));
                columns.len() - 1
            });
            columns[at].1 = wider(columns[at].1, value);
        }
    }
    let columns: Vec<(String, Kind)> = columns.into_iter().map(|(n, k)| (n, k.unwrap_or(Kind::Text))).collect();
    write(&columns, &rows).map_err(io::Error::other)
}

/// Returns the kind that holds a value and everything before it.
fn wider(kind: Option<Kind>, value: &Value) -> Option<Kind> {
    let own = match value {
        Value::Null => return kind,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(n) if n.is_i64() => Kind::Integer,
        Value::Number(_) => Kind::Number,
        _ => Kind::Text,
    };
    Some(match (kind, own) {
        (None, own) => own,
        (Some(kind), own) if kind == own => kind,
        (Some(Kind::Integer), Kind::Number) | (Some(Kind::Number), Kind::Integer) => Kind::Number,
        _ => Kind::Text,
    })
}

fn write(columns: &[(String, Kind)], rows: &[Map<String, Value>]) -> parquet::errors::Result<Vec<u8>> {
    let fields = columns.iter().map(|(name, kind)| {
        let (physical, converted) = match kind {
            Kind::Boolean => (Physical::BOOLEAN, ConvertedType::NONE),
            Kind::Integer => (Physical::INT64, ConvertedType::NONE),
            Kind::Number => (Physical::DOUBLE, ConvertedType::NONE),
            Kind::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
        };
        let field = Type::primitive_type_builder(name, physical).with_converted_type(converted);
        Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).build()?))
    });
    let fields = fields.collect::<parquet::errors::Result<Vec<_>>>()?;
    let schema = Arc::new(Type::group_type_builder("records").with_fields(fields).build()?);
    let properties =
        WriterProperties::builder().set_created_by(concat!("quarry ", env!("CARGO_PKG_VERSION")).to_owned());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    for (name, _) in columns {
        let Some(mut column) = group.next_column()? else { break };
        let cells: Vec<&Value> = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null)).collect();
        let present: Vec<i16> = cells.iter().map(|cell| i16::from(!cell.is_null())).collect();
        let given = || cells.iter().copied().filter(|cell| !cell.is_null());
        match column.untyped() {
            ColumnWriter::BoolColumnWriter(writer) => {
                let values: Vec<bool> = given().filter_map(Value::as_bool).collect();
                writer.write_batch(&values, Some(&present), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let values: Vec<i64> = given().filter_map(Value::as_i64).collect();
                writer.write_batch(&values, Some(&present), None)?;
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let values: Vec<f64> = given().filter_map(Value::as_f64).collect();
                writer.write_batch(&values, Some(&present), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let text = |cell: &Value| match cell {
                    Value::String(text) => ByteArray::from(text.as_str()),
                    other => ByteArray::from(other.to_string().as_str()),
                };
                let values: Vec<ByteArray> = given().map(text).collect();
                writer.write_batch(&values, Some(&present), None)?;
            }
            _ => {}
        }
        column.close()?;
    }
    group.close()?;
    file.into_inner()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, RowAccessor};

    use super::*;

    #[test]
    fn records_come_back_with_their_types_and_nothing_is_made_up_where_there_was_none() {
        let lines = "{\"a\":1,\"b\":true,\"c\":\"x\",\"d\":1}\n{\"a\":2.5,\"b\":null,\"c\":[1,2],\"e\":\"late\"}\n";
        let file = file_of(lines.lines()).unwrap();
        assert_eq!(file, file_of(lines.lines()).unwrap());
        let reader = SerializedFileReader::new(bytes_of(file)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!((rows[0].get_double(0).unwrap(), rows[1].get_double(0).unwrap()), (1.0, 2.5));
        assert_eq!((rows[0].get_bool(1).unwrap(), rows[0].get_long(3).unwrap()), (true, 1));
        assert_eq!(rows[1].get_string(2).unwrap(), "[1,2]");
        let named: BTreeMap<&str, &Field> = rows[1].get_column_iter().map(|(n, f)| (n.as_str(), f)).collect();
        assert_eq!((named["b"], named["d"]), (&Field::Null, &Field::Null));
        assert_eq!(named["e"], &Field::Str("late".into()));
    }

    #[test]
    fn no_records_are_a_file_too() {
        assert!(file_of("".lines()).unwrap().starts_with(b"PAR1"));
    }

    fn bytes_of(file: Vec<u8>) -> std::fs::File {
        use std::io::Write;
        let mut kept = tempfile::tempfile().unwrap();
        kept.write_all(&file).unwrap();
        kept
    }
}
