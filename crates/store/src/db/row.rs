//! Parameters of a statement and values of its rows.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};

use crate::error::{StoreError, failed};

/// A parameter. Integers are 64 bits wide in both databases.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    Int(i64),
    Text(&'a str),
    OptText(Option<&'a str>),
    Bytes(&'a [u8]),
    Real(f64),
}

/// A row of an answer.
pub(crate) enum DbRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! bind {
    ($query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match *arg {
                Arg::Int(value) => query.bind(value),
                Arg::Text(value) => query.bind(value.to_owned()),
                Arg::OptText(value) => query.bind(value.map(str::to_owned)),
                Arg::Bytes(value) => query.bind(value.to_owned()),
                Arg::Real(value) => query.bind(value),
            };
        }
        query
    }};
}

pub(super) fn sqlite_query(sql: &'static str, args: &[Arg<'_>]) -> Query<'static, Sqlite, SqliteArguments> {
    bind!(sqlx::query(sql), args)
}

pub(super) fn postgres_query(sql: &'static str, args: &[Arg<'_>]) -> Query<'static, Postgres, PgArguments> {
    bind!(sqlx::query(sql), args)
}

impl DbRow {
    pub(crate) fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    pub(crate) fn real(&self, column: usize) -> Result<f64, StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_real(&self, column: usize) -> Result<Option<f64>, StoreError> {
        self.get(column)
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        self.get(column)
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        self.get(column)
    }

    /// Bytes of a length that the schema implies.
    pub(crate) fn array<const N: usize>(&self, column: usize, name: &'static str) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes(column)?;
        bytes.try_into().map_err(|_| StoreError::Unreadable { column: name, value: format!("{} bytes", bytes.len()) })
    }

    /// The types are those of the schema: not looked at again for every value.
    fn get<'r, T>(&'r self, column: usize) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get_unchecked(column),
            Self::Postgres(row) => row.try_get_unchecked(column),
        }
        .map_err(failed("read"))
    }
}
